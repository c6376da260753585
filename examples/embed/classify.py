# The same in Python, by the module that `tg build fashion.tg -o libfashion.so --python` writes: python3 classify.py IMAGES LABELS
import sys

import numpy as np

import fashion

images, labels = (np.fromfile(path, np.uint8, offset=skip) for path, skip in zip(sys.argv[1:], (16, 8)))
p = fashion.Context().predict(images.reshape(-1, 1, 28, 28) / np.float32(255))
print((p.argmax(axis=1) == labels).sum(), "of", len(labels), "right")
