"""One network of `train` in PyTorch: python torch_train.py NAME THREADS STEPS [DEVICE [BATCH]]. Prints seconds and processor seconds of the fastest of
three runs of STEPS steps, in each of the ways to run it; run by `train` and `ranks`. With RANK and WORLD_SIZE in the environment it is one
of several processes: DistributedDataParallel over gloo, each with its share of every batch."""
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

name, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
device = sys.argv[4] if len(sys.argv) > 4 else "cpu"
torch.manual_seed(0)
rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
if ranks > 1:
    torch.distributed.init_process_group("gloo")


class Chars(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.rnn, self.out = nn.Embedding(256, 256), nn.LSTM(256, 256, 2, batch_first=True), nn.Linear(256, 256)

    def forward(self, x):
        return self.out(self.rnn(self.emb(x))[0])


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.ln1, self.ln2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj, self.up, self.down = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers=4, d=128, heads=4, ctx=128, vocab=256):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, d), nn.Embedding(ctx, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.ln, self.head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)

    def forward(self, x):
        h = self.tok(x) + self.pos.weight[: x.shape[1]]
        for b in self.blocks:
            h = b(h)
        return self.head(self.ln(h))


def images(n):
    return torch.rand(n, 1, 28, 28), torch.arange(n) % 10


def text(n, t):
    b, i = torch.arange(n)[:, None], torch.arange(t + 1)[None, :]
    ids = (b * 7 + i * 13 + b * i) % 256
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


nets = {
    "mlp": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)),
            lambda: images(4096), 64, torch.optim.Adam),
    "cnn": (lambda: nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(13 * 13 * 32, 64), nn.ReLU(),
                                  nn.Linear(64, 10)), lambda: images(4096), 64, torch.optim.Adam),
    "lstm": (Chars, lambda: text(640, 64), 32, torch.optim.Adam),
    "gpt": (Gpt, lambda: text(320, 128), 16, torch.optim.AdamW),
}
make, make_data, batch, optimiser = nets[name]
batch = int(sys.argv[5]) if len(sys.argv) > 5 else batch
x, y = (t.to(device) for t in make_data())


def train(m, opt, n, layout):
    p = torch.randperm(len(x), device=device)
    for s in range(n):
        j = p[s * batch % len(x):][:batch][rank::ranks]
        xb = x[j]
        if layout:
            xb = xb.to(memory_format=torch.channels_last)
        opt.zero_grad(set_to_none=True)
        z = m(xb)
        F.cross_entropy(z.view(-1, z.shape[-1]), y[j].view(-1)).backward()
        opt.step()
    if device != "cpu":
        torch.cuda.synchronize()


best = (math.inf, math.inf)
for fused in (False, True):
    for layout in (False, True) if name == "cnn" else (False,):
        m = make().to(device)
        if layout:
            m = m.to(memory_format=torch.channels_last)
        if ranks > 1:
            m = nn.parallel.DistributedDataParallel(m)
        opt = optimiser(m.parameters(), lr=1e-3, fused=fused)
        train(m, opt, 3, layout)
        for _ in range(3):
            w, c = time.perf_counter(), time.process_time()
            train(m, opt, steps, layout)
            best = min(best[0], time.perf_counter() - w), min(best[1], time.process_time() - c)
print("%.6f %.6f" % (best[0] / steps, best[1] / steps))
if ranks > 1:
    torch.distributed.destroy_process_group()
