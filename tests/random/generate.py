#!/usr/bin/env python3
"""Writes random well-typed tg programs, separated by lines `---`. Usage: generate.py SEED COUNT

Each program binds inputs, intermediate tensors made by random constructs, and, for the differentiable half, a claim that grad
agrees with central differences along a random direction (f64, eps 1e-6, rtol 1e-6), some to second order. Kinks are avoided by
construction: the differentiable half uses smooth operations, and max/min only over values kept apart."""
import random, sys
sys.dont_write_bytecode = True
from forms import Forms, Integers

SIZES = [1, 2, 3, 5, 7, 17, 33]

class Gen(Forms):
    def __init__(self, rng, dtype, smooth):
        self.r, self.dtype, self.smooth = rng, dtype, smooth
        self.vars, self.lines, self.n, self.fresh = [], [], 0, 0
        self.total = 0 # elements of xf, in derivative programs

    def name(self):
        self.n += 1
        return f"v{self.n}"

    def index(self):
        self.fresh += 1
        return f"i{self.fresh}"

    def size(self):
        return self.r.choice(SIZES[:5] if self.r.random() < 0.8 else SIZES)

    def number(self):
        return f"{self.r.choice([-1, 1]) * self.r.randint(1, 40) / 16}"

    def fill(self, shape):
        """An input with values k/16 in [-2, 2], spread by a congruence so that neighbours differ."""
        a, b = self.r.choice([7, 11, 13, 19, 23]), self.r.randint(0, 50)
        if not shape:
            return f"{self.dtype}({self.number()})"
        idx = [self.index() for _ in shape]
        lin = " + ".join(f"{i} * {self.r.choice([3, 5, 9, 17, 29])}" for i in idx)
        ranges = ", ".join(f"{i} in 0..{n}" for i, n in zip(idx, shape))
        return f"{self.dtype}([(({lin}) * {a} + {b}) % 67 - 33 for {ranges}]) / 16.5"

    def shape(self, rank):
        return tuple(self.size() for _ in range(rank))

    # ---- tensors of a wanted shape -------------------------------------------------------------------------------
    def tensor(self, shape, depth):
        if depth <= 0 or self.r.random() < 0.1:
            have = [v for v, s in self.vars if s == shape]
            if have and self.r.random() < 0.85:
                return self.r.choice(have)
            return self.derived_input(shape)
        forms = [self.unary, self.binary, self.binary, self.comp, self.select, self.bind_fn]
        if shape:
            forms += [self.broadcast, self.reduce, self.reduce_comp, self.reshape, self.flip, self.concat, self.slice, self.gather,
                      self.segment, self.cumsum, self.loop, self.guarded, self.pad, self.stacked, self.shifted, self.scanned]
        else:
            forms += [self.reduce, self.reduce_comp, self.dot, self.loop]
        if len(shape) >= 2:
            forms += [self.matmul, self.matmul, self.conv, self.transpose, self.outer]
        if self.r.random() < 0.45:
            forms = self.more(shape)
        return self.r.choice(forms)(shape, depth - 1)

    def derived_input(self, shape):
        n = self.name()
        self.lines.append(f"{n} = {self.of_x(shape) if self.total and self.r.random() < 0.6 else self.fill(shape)}")
        return n

    def of_x(self, shape):
        """Elements of x (flat: xf), picked by a congruence."""
        idx = [self.index() for _ in shape]
        lin = " + ".join([f"{i} * {self.r.choice([1, 2, 3, 5])}" for i in idx] + [str(self.r.randint(0, 5))])
        ranges = ", ".join(f"{i} in 0..{n}" for i, n in zip(idx, shape))
        return f"[xf[({lin}) % {self.total}] for {ranges}]" if shape else f"xf[{self.r.randrange(self.total)}]"

    def unary(self, s, d):
        x = self.tensor(s, d)
        f = ["sin({})", "cos({})", "tanh({})", "exp(sin({}))", "sigmoid({})", "sqrt(({})^2 + 1)", "log(({})^2 + 1)", "erf({})",
             "({})^2", "-({})", "expm1(tanh({}))", "log1p(({})^2)", "1 / (({})^2 + 1)", "({})^3 * 0.1", "softplus({})", "silu({})"]
        if not self.smooth and self.dtype == "f64":
            f += ["abs({})", "floor({} * 4) * 0.25", "sign({})", "round({} * 4)", "max({}, 0)", "relu({})", "min({}, 0.3)", "ceil({})"]
        return self.r.choice(f).format(x)

    def binary(self, s, d):
        a, b = self.tensor(s, d), self.tensor(s, d)
        f = ["({}) + ({})", "({}) - ({})", "({}) * ({})", "({}) / (({})^2 + 1)", "tanh({}) * ({})"]
        if not self.smooth and self.dtype == "f64":
            f += ["max({}, {})", "min({}, {})"]
        return self.r.choice(f).format(a, b)

    def select(self, s, d):
        a, b, c = self.tensor(s, d), self.tensor(s, d), self.derived_input(s)
        return f"where({c} > 0.01, {a}, {b})" if self.r.random() < 0.5 else f"(({a}) if {c} > 0.01 else ({b}))"

    def bind_fn(self, s, d):
        f, x = self.name(), self.name()
        body = self.tensor(s, d)
        self.lines.append(f"{f} = {x} -> {x} * 0.5 + ({body})")
        return f"{f}({self.tensor(s, d)})"

    def view(self, x, shape, idx):
        """x, of `shape`, read at the indices: sometimes backwards or as an offset."""
        subs = []
        for i, n in zip(idx, shape):
            subs.append(f"{n - 1} - {i}" if self.r.random() < 0.2 else i)
        return f"{x}[{', '.join(subs)}]" if shape else x

    def bound(self, s, d):
        e = self.tensor(s, d)
        n = self.name()
        self.lines.append(f"{n} = {e}")
        return n

    def comp(self, s, d):
        if not s:
            return self.unary(s, d)
        idx = [self.index() for _ in s]
        a, b = self.bound(s, d), self.bound(s, 0)
        ranges = ", ".join(f"{i} in 0..{n}" if self.r.random() < 0.7 else i for i, n in zip(idx, s))
        bare = f"{a}[{', '.join(idx)}]"
        e = self.r.choice(["{0} * {1} + 0.5", "sin({0}) + {1}", "{0} - {1} * {2}", "tanh({0} * {1})"])
        return "[" + e.format(bare, self.view(b, s, idx), self.r.choice(idx)) + f" * 0.5 for {ranges}]"

    def broadcast(self, s, d):
        k = self.r.randrange(len(s))
        small = tuple(1 if j == k else n for j, n in enumerate(s))
        a, b = self.tensor(s, d), self.tensor(small, d)
        return f"({a}) {self.r.choice('+-*')} ({b})"

    def reduce(self, s, d):
        k = self.r.randint(0, len(s))
        big = s[:k] + (self.size(),) + s[k:]
        f = self.r.choice(["sum", "mean"] if self.smooth else ["sum", "mean", "max", "min"])
        return f"{f}({self.tensor(big, d)}, axis = {k if self.r.random() < 0.7 else k - len(big)})"

    def reduce_comp(self, s, d):
        idx, k = [self.index() for _ in s], self.index()
        n = self.size()
        a, b = self.bound(s + (n,), d), self.bound((n,), 0)
        op = self.r.choice(["sum", "sum", "mean"] if self.smooth else ["sum", "sum", "max", "min", "mean"])
        e = self.r.choice([f"{a}[{', '.join(idx + [k])}] * {b}[{k}]", f"{a}[{', '.join(idx + [k])}]^2 + {b}[{k}]", f"sin({a}[{', '.join(idx + [k])}])"])
        guard = self.r.choice(["", "", f" if {k} % 2 == 0", f" if {b}[{k}] > 0.01"])
        if op == "mean" or (guard and op in ("max", "min")):
            guard = ""
        red = f"{op}({e} for {k}{guard})"
        if not s:
            return red
        return f"[{red} for {', '.join(idx)}]"

    def dot(self, s, d):
        n = self.size()
        return f"sum({self.bound((n,), d)} * {self.bound((n,), d)})"

    def reshape(self, s, d):
        total = 1
        for n in s:
            total *= n
        f = self.r.choice([p for p in range(1, total + 1) if total % p == 0]) if total else 1
        src = (total // f, f) if total else s
        return f"reshape({self.tensor(src, d)}, {', '.join(map(str, s))})"

    def flip(self, s, d):
        k = self.r.randrange(len(s))
        return f"flip({self.tensor(s, d)}, axis = {k})"

    def shifted(self, s, d):
        return f"roll({self.tensor(s, d)}, {self.r.randint(-3, 3)}, axis = {self.r.randrange(len(s))})"

    def concat(self, s, d):
        k = self.r.randrange(len(s))
        if s[k] < 2:
            return self.unary(s, d)
        m = self.r.randint(1, s[k] - 1)
        a = self.tensor(s[:k] + (m,) + s[k + 1:], d)
        b = self.tensor(s[:k] + (s[k] - m,) + s[k + 1:], d)
        return f"concat({a}, {b}, axis = {k})"

    def stacked(self, s, d):
        if s[0] != 2:
            return self.binary(s, d)
        return f"stack({self.tensor(s[1:], d)}, {self.tensor(s[1:], d)})"

    def slice(self, s, d):
        k, lo, step = self.r.randrange(len(s)), self.r.randint(0, 3), self.r.choice([1, 1, 2, 3])
        if s[k] == 0:
            return self.unary(s, d)
        n = lo + (s[k] - 1) * step + 1
        x = self.bound(s[:k] + (n,) + s[k + 1:], d)
        return f"{x}[{', '.join([':'] * k + [f'{lo}:{n}:{step}' if step > 1 else f'{lo}:'])}]"

    def pad(self, s, d):
        k = self.r.randrange(len(s))
        if s[k] < 3:
            return self.unary(s, d)
        i = [self.index() for _ in s]
        x = self.bound(s[:k] + (s[k] - 2,) + s[k + 1:], d)
        subs = i[:k] + [f"{i[k]} - 1"] + i[k + 1:]
        ranges = ", ".join(f"{j} in 0..{n}" for j, n in zip(i, s))
        return f"[{x}[{', '.join(subs)}] if {i[k]} >= 1 and {i[k]} < {s[k] - 1} else 0 for {ranges}]"

    def gather(self, s, d):
        n = self.size()
        x = self.bound((n,) + s[1:], d)
        at = self.name()
        self.lines.append(f"{at} = argsort([({self.r.choice([3, 5, 7])} * j + {self.r.randint(0, 9)}) % 11 for j in 0..{s[0]}]) % {n}")
        return f"{x}[{at}]"

    def segment(self, s, d):
        n, i, k = self.size(), self.index(), self.index()
        x, a = self.bound((n,) + s[1:], d), self.name()
        self.lines.append(f"{a} = argsort([({self.r.choice([3, 5, 7])} * j) % 13 for j in 0..{n}]) % {s[0]}")
        rest = [self.index() for _ in s[1:]]
        return f"[sum({x}[{', '.join([i] + rest)}] for {i} if {a}[{i}] == {k}) for {', '.join([f'{k} in 0..{s[0]}'] + rest)}]"

    def cumsum(self, s, d):
        return f"cumsum({self.tensor(s, d)}, axis = {self.r.randrange(len(s))}) * 0.25"

    def guarded(self, s, d):
        i, k = self.index(), self.index()
        rest = [self.index() for _ in s[:-1]]
        x = self.bound(s, d)
        return f"[sum({x}[{', '.join(rest + [k])}] * 0.25 for {k} if {k} <= {i}) for {', '.join(rest + [f'{i} in 0..{s[-1]}'])}]"

    def loop(self, s, d):
        a, b, st, t = self.bound(s, d), self.bound(s, 0), self.name(), self.index()
        n = self.r.choice([0, 1, 2, 3, 5])
        body = self.r.choice([f"tanh({st} + {b})", f"{st} * 0.5 + {b} * {t}", f"sin({st}) - {b}"])
        return f"(fold {st} = {a} for {t} in 0..{n} {{ {body} }})"

    def scanned(self, s, d):
        if s[0] > 7:
            return self.unary(s, d)
        x, st, t = self.bound(s, d), self.name(), self.index()
        init = self.bound(s[1:], 0)
        return f"(scan {st} = {init} for {t} in 0..{s[0]} {{ tanh({st} * 0.5 + {x}[{t}]) }})"

    def matmul(self, s, d):
        k = self.size()
        a, b = self.bound(s[:-1] + (k,), d), self.bound((k, s[-1]), d)
        if len(s) == 2 and self.r.random() < 0.5:
            m, n, kk = self.index(), self.index(), self.index()
            return f"[sum({a}[{m}, {kk}] * {b}[{kk}, {n}] for {kk}) for {m}, {n}]"
        return f"({a}) @ ({b})"

    def conv(self, s, d):
        c, r = self.r.choice([1, 2, 3]), self.r.choice([1, 2, 3])
        st = self.r.choice([1, 1, 2])
        if 0 in s:
            return self.unary(s, d)
        x = self.bound(s[:-2] + (c, (s[-1] - 1) * st + r), d)
        w = self.bound((s[-2], c, r), 0)
        b = [self.index() for _ in s[:-2]]
        o, y, ci, ri = (self.index() for _ in range(4))
        pos = f"{st} * {y} + {ri}" if st > 1 else f"{y} + {ri}"
        return f"[sum({x}[{', '.join(b + [ci, pos])}] * {w}[{o}, {ci}, {ri}] for {ci}, {ri}) for {', '.join(b + [o, y])}]"

    def transpose(self, s, d):
        return f"({self.tensor(s[:-2] + (s[-1], s[-2]), d)}).t"

    def outer(self, s, d):
        if len(s) != 2:
            return self.binary(s, d)
        i, j = self.index(), self.index()
        a, b = self.bound((s[0],), d), self.bound((s[1],), d)
        return f"[{a}[{i}] {self.r.choice('+-*')} {b}[{j}] for {i}, {j}]"

    # ---- programs --------------------------------------------------------------------------------------------------
    def define(self, depth):
        s = self.shape(self.r.choice([0, 1, 1, 2, 2, 2, 3]))
        if not self.smooth and self.r.random() < 0.03 and s:
            s = (0,) + s[1:]
        e = self.tensor(s, depth)
        n = self.name()
        self.lines.append(f"{n} = {e}")
        self.vars.append((n, s))

def forward(rng):
    g = Gen(rng, rng.choice(["f64", "f64", "f32"]), False)
    for _ in range(rng.randint(1, 3)):
        g.define(rng.randint(1, 3))
    return "\n".join(g.lines)

def derivative(rng):
    g = Gen(rng, "f64", True)
    s = g.shape(rng.choice([0, 1, 2, 2, 3]))
    head = [f"x = {g.fill(s)}", f"dir = {g.fill(s)}"]
    g.vars = [("x", s)]
    g.total = 1
    for n in s:
        g.total *= n
    g.lines = [f"xf = reshape(x, {g.total})"]
    body = g.tensor(g.shape(rng.choice([0, 1, 2])), rng.randint(2, 3))
    lines = g.lines + [f"out = {body}", "sum(out * sin(out + 0.3))"]
    f = "def f(x) {\n  " + "\n  ".join(lines) + "\n}"
    # What is bound is compared between the evaluations too: gradients, not the differences nor sums that cancel, which magnify
    # rounding. Differences of two widths say how far the differences themselves can be trusted.
    def differences(g, h):
        one, two = (f"({g}(x + {w} * dir) - {g}(x - {w} * dir)) / {2 * w}" for w in (h, 2 * h))
        return [f"n1 = () -> {one}", f"n2 = () -> {two}"]
    tail = ["g = grad(f)(x)", "d = () -> sum(g * dir)"] + differences("f", 1e-6)
    tail.append("ok = abs(d() - n1()) <= 1e-6 * (abs(d()) + abs(f(x)) + 1) + abs(n1() - n2())")
    if rng.random() < 0.3:
        tail += ["s = z -> sum(grad(f)(z) * dir)", "h = grad(s)(x)", "d2 = () -> sum(h * dir)"] + differences("s", 1e-5)
        tail.append("ok2 = abs(d2() - n1()) <= 2e-5 * (abs(d2()) + abs(d()) + abs(f(x)) + 1) + abs(n1() - n2())")
    return "\n".join(head + [f] + tail)

def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    for k in range(count):
        rng = random.Random(seed * 1_000_003 + k)
        print(Integers(rng).program() if k % 8 == 4 else forward(rng) if k % 2 == 0 else derivative(rng))
        print("---")

if __name__ == "__main__":
    main()
