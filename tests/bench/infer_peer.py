"""One side of `infer`: python infer_peer.py tg|torch|ort NETWORK-BATCH THREADS BATCH [LIBRARY]. Says "ready"; then for each line read, one
line of WAY=SECONDS: the median of its calls, by processor time on one thread, else by the clock."""
import ctypes
import math
import os
import sys
import tempfile
import time

import numpy as np

side, name, threads, batch = sys.argv[1], sys.argv[2].split("-")[0], int(sys.argv[3]), int(sys.argv[4])
shape = {"mlp": (784,), "cnn": (1, 28, 28)}.get(name, (3, 224, 224))
x = np.random.default_rng(0).random((batch, *shape), dtype=np.float32)


def library(path):
    l = ctypes.CDLL(path)

    class Options(ctypes.Structure):
        _fields_ = [("size", ctypes.c_size_t), ("threads", ctypes.c_int), ("rest", ctypes.c_void_p * 5)]

    c, y = ctypes.c_void_p(), np.full((batch, 10 if shape[0] != 3 else 1000), np.nan, np.float32)
    assert l.net_create(ctypes.byref(Options(ctypes.sizeof(Options), threads)), ctypes.byref(c)) == 0
    a, b = x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p)
    assert l.net_predict(c, a, b) == 0 and np.isfinite(y).all() and l.net_selftest(c) == 0
    return {"tg": lambda: l.net_predict(c, a, b)}


def network():
    import torch
    from torch import nn

    def conv_bn(i, o, k, s=1):
        return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o))

    class Block(nn.Module):
        def __init__(self, i, mid, o, s, deep):
            super().__init__()
            if deep:
                self.f = nn.Sequential(conv_bn(i, mid, 1), nn.ReLU(), conv_bn(mid, mid, 3, s), nn.ReLU(), conv_bn(mid, o, 1))
            else:
                self.f = nn.Sequential(conv_bn(i, o, 3, s), nn.ReLU(), conv_bn(o, o, 3))
            self.skip = conv_bn(i, o, 1, s) if s != 1 or i != o else nn.Identity()

        def forward(self, x):
            return torch.relu(self.f(x) + self.skip(x))

    torch.manual_seed(0)
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)).eval()
    if name == "cnn":
        return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(13 * 13 * 32, 64), nn.ReLU(),
                             nn.Linear(64, 10)).eval()
    counts, grow = ((2, 2, 2, 2), 1) if name == "resnet18" else ((3, 4, 6, 3), 4)
    m, i = [conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for stage, n in enumerate(counts):
        for k in range(n):
            mid = 64 << stage
            m.append(Block(i, mid, mid * grow, 2 if stage and not k else 1, grow > 1))
            i = mid * grow
    return nn.Sequential(*m, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 1000)).eval()


def torch_ways():
    import torch
    torch.set_num_threads(threads)
    m, t = network(), torch.from_numpy(x)
    ways = {"eager": (m, t)}
    if len(shape) == 3:
        ways["channels_last"] = network().to(memory_format=torch.channels_last), t.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        ways["frozen"] = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(m, t))), t
        assert torch.isfinite(m(t)).all()
        if not os.environ.get("BENCH_NO_COMPILE"):
            try:
                import torch._inductor.config as config
                config.freezing = True
                compiled = torch.compile(network())
                compiled(t)
                ways["compiled"] = compiled, t
            except Exception:  # no C++ compiler
                pass
    torch.inference_mode().__enter__() if "compiled" not in ways else torch.no_grad().__enter__()
    return {k: lambda f=f, t=t: f(t) for k, (f, t) in ways.items()}


def ort_ways():
    import onnxruntime
    import torch
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.onnx")
        torch.onnx.export(network(), (torch.from_numpy(x),), path, dynamo=False, opset_version=17)
        s = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {s.get_inputs()[0].name: x}
    assert np.isfinite(s.run(None, feed)[0]).all()
    return {"ort": lambda: s.run(None, feed)}


def median(f):
    clock = time.process_time if threads == 1 else time.perf_counter
    f()
    f()
    start, took, per = time.perf_counter(), [], 1
    while len(took) < 7 or (time.perf_counter() - start < 0.4 and len(took) < 2000):
        t = clock()
        for _ in range(per):
            f()
        t = (clock() - t) / per
        if len(took) == 3 and t < 1e-4:
            per, took = math.ceil(5e-4 / t), []
            continue
        took.append(t)
    return sorted(took)[len(took) // 2]


ways = library(sys.argv[5]) if side == "tg" else torch_ways() if side == "torch" else ort_ways()
print("ready", flush=True)
for _ in sys.stdin:
    print(*("%s=%.9f" % (way, median(f)) for way, f in ways.items()), flush=True)
