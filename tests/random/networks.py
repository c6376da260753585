#!/usr/bin/env python3
"""Random training programs: networks.py SEED COUNT FOLDER writes FOLDER/N.tg, COUNT of them.

A data set whose rows differ and that few batches divide; a network of dense, convolutional, recurrent or attention layers, norms, dropout, and
now and then something that couples the samples of a batch; a loss; an optimiser; `fit`, some with checkpoints and an argument `until`, the number of
steps, or loops of its own over the batches. Each program saves what it comes to in result.safetensors and prints the loss, so that runs on other threads, ranks and devices can be compared bit for bit."""
import random, sys


class Network:
    """Fields and statements of a model, and the shape of `h` after them, without its batch axis B."""

    def __init__(self, r, shape):
        self.r, self.shape, self.fields, self.lines, self.n = r, shape, [], [], 0

    def field(self, text):
        self.n += 1
        self.fields.append(f"l{self.n} = {text}")
        return f"l{self.n}"

    def then(self, text, shape=None):
        self.lines.append(f"h = {text}")
        self.shape = shape or self.shape

    def activation(self):
        return self.r.choice(("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "softplus", "leaky_relu"))

    # ---- what couples samples
    def couple(self):
        k = self.shape[-1]
        self.then(self.r.choice((
            "h - mean(h, axis = 0)", "softmax(h, axis = 0)", "0.3 * cumsum(h, axis = 0)", "h / (1 + max(abs(h)))",
            "[h[(b + 1) % B, i] + h[b, i] for b, i]", "softmax(h @ h.t) @ h", "h - max(h, axis = 0)",
            "[h[b, i] - h[0, i] for b, i]", "h[::-1]", "h + sort(h[:, 0])[:, none]", "h[argsort(h[:, 0])]",
            "concat(h[:, 0:1] * sum(h), h[:, 1:], axis = 1)" if k > 1 else "h * sum(h)", "where(h > mean(h), h, 0.1 * h)",
            "h * std(h)", "[sum(h[m, i] * exp(-(h[m, 0] - h[b, 0])^2) for m) / B for b, i]",
            "h + tanh(h.t @ h)[0]", "[sum(h[m, i] for m if m <= b) / f32(b + 1) for b in 0..B, i]", "h / (1e-3 + norm(h))",
        )))

    def vector(self):
        k = self.shape[0]
        kind = self.r.randrange(12)
        if kind < 3:
            to = self.r.choice((1, 3, 8, 17, 32, 64, 70))
            self.then(f"{self.activation()}({self.field(f'Dense({k}, {to})')}(h))", (to,))
        elif kind == 3:
            self.then(f"{self.field(self.r.choice((f'LayerNorm({k})', f'RMSNorm({k})')))}(h)")
        elif kind == 4:
            self.then(f"{self.field(f'BatchNorm1d({k})')}(h)")
        elif kind == 5:
            self.then(f"{self.field(f'Dropout({self.r.choice((0.1, 0.5))})')}(h)")
        elif kind == 6:
            self.then(f"h + {self.activation()}({self.field(f'Dense({k}, {k})')}(h))")
        elif kind == 7:
            self.then(self.r.choice((f"[h[b, (i + 1) % {k}] for b, i in 0..{k}]", "softmax(h)", "cumsum(h, axis = 1) / 4", "h * max(h, axis = 1, keepdims = true)",
                                     "sort(h, axis = 1)", "where(h > 0, h, 0.2 * h^2)", "h + 0.1 * randn(h.shape)", "min(h, 0.5)")))
        elif kind == 8:
            self.fields.append(f"s{self.n}: param[{k}] = normal(0.3)")
            self.then(f"h * s{self.n} + 1")
            self.n += 1
        elif kind == 9:
            self.couple()
        elif kind == 10 and k % 2 == 0:
            self.then("split(h, 2, axis = -1)[0] * sigmoid(split(h, 2, axis = -1)[1])", (k // 2,))
        else:
            n = self.r.choice((2, 3))
            e = self.field(f"[Dense({k}, {k}) for i in 0..{n}]")
            self.then(f"fold y = h for l in {e} {{ y + tanh(l(y)) }}")

    def image(self):
        c, a, b = self.shape
        kind = self.r.randrange(10)
        if kind < 4:
            to, k, s, p = self.r.choice((1, 3, 4, 8)), self.r.choice((1, 2, 3)), self.r.choice((1, 1, 2)), self.r.choice((0, 1))
            g = 2 if c % 2 == 0 and to % 2 == 0 and self.r.random() < 0.3 else 1
            size = lambda n: (n + 2 * p - k) // s + 1
            if min(a, b) + 2 * p >= k and size(min(a, b)) > 0:
                conv = self.field(f"Conv({c}, {to}, {k}, stride = {s}, padding = {p}, groups = {g})")
                self.then(f"{self.activation()}({conv}(h))", (to, size(a), size(b)))
        elif kind == 4:
            self.then(f"{self.field(f'BatchNorm({c})')}(h)")
        elif kind == 5 and c % 2 == 0:
            self.then(f"{self.field(f'GroupNorm({c}, 2)')}(h)")
        elif kind == 6 and min(a, b) >= 2:
            self.then(self.r.choice(("maxpool", "avgpool")) + "(h, 2)", (c, a // 2, b // 2))
        elif kind == 7:
            self.then(f"{self.field(f'Dropout({self.r.choice((0.1, 0.5))})')}(h)")
        elif kind == 8 and min(a, b) >= 3:
            self.then(f"maxpool(h, 3, stride = 1, padding = 1)")
        else:
            self.then(f"h + tanh({self.field(f'Conv({c}, {c}, 3, padding = 1)')}(h))")

    def sequence(self):
        t, d = self.shape
        kind = self.r.randrange(9)
        if kind == 0:
            self.then(f"{self.field(f'LSTM({d}, {d + 2})')}(h)", (t, d + 2))
        elif kind == 1:
            self.then(f"{self.field(f'GRU({d}, {d})')}(h)")
        elif kind == 2:
            self.then(f"{self.field(f'RNN({d}, 6)')}(h)", (t, 6))
        elif kind == 3:
            heads = 2 if d % 2 == 0 else 1
            causal, p = self.r.choice(("true", "false")), self.r.choice((0.0, 0.2))
            self.then(f"h + {self.field(f'Attention({d}, {heads}, causal = {causal}, p = {p})')}(h)")
        elif kind == 4:
            heads = 2 if d % 2 == 0 else 1
            self.then(f"{self.field(f'TransformerBlock({d}, {heads}, {2 * d}, causal = true, p = {self.r.choice((0.0, 0.1))})')}(h)")
        elif kind == 5:
            self.then(f"{self.field(f'LayerNorm({d})')}(h)")
        elif kind == 6:
            self.then(f"tanh({self.field(f'Conv1d({d}, {d}, 3, padding = 1)')}(h.transpose(0, 2, 1))).transpose(0, 2, 1)")
        elif kind == 7:
            self.then(f"{self.field('Dropout(0.2)')}(h)")
        else:
            self.then(f"{self.activation()}({self.field(f'Dense({d}, 8)')}(h))", (t, 8))

    def flat(self):
        """Back to one vector a sample."""
        if len(self.shape) == 3:
            c, a, b = self.shape
            self.then(*self.r.choice(((f"h.reshape(B, {c * a * b})", (c * a * b,)), ("global_avgpool(h)", (c,)), ("global_maxpool(h)", (c,)))))
        elif len(self.shape) == 2:
            t, d = self.shape
            self.then(*self.r.choice((("h[:, -1]", (d,)), ("mean(h, axis = 1)", (d,)), ("max(h, axis = 1)", (d,)), (f"h.reshape(B, {t * d})", (t * d,)))))


OPTIMISERS = ("opt.sgd(LR)", "opt.sgd(LR, momentum = 0.9, decay = 1e-3)", "opt.nesterov(LR)", "opt.adagrad(LR)", "opt.rmsprop(LR)", "opt.rmsprop(LR, momentum = 0.5)",
              "opt.adam(LR)", "opt.adam(LR)", "opt.adamw(LR)", "opt.lamb(LR)")
RATES = ("1e-2", "3e-3", "opt.warmup(1e-2, 3)", "opt.cosine(1e-2, 20)", "opt.step(1e-2, 4, 0.5)", "opt.onecycle(1e-2, 12)")
# of [B, K] scores and int y; of [B, K] and [B, M] values
OF_CLASSES = ("mean(cross_entropy(o, y))", "mean(cross_entropy(o, y, smoothing = 0.1))", "sum(cross_entropy(o, y)) / 32",
              "-mean(log_softmax(o)[b, y[b]] for b)", "mean(max(0, 1 + o[b, k] - o[b, y[b]]) for b, k if k != y[b])",
              "mean(cross_entropy(o, y)) + 1e-3 * sum(sum(w^2) for w in leaves(net))", "max(cross_entropy(o, y))",
              "mean([cross_entropy(o, y)[b] * f32(1 + y[b] % 2) for b])", "log(mean(exp(cross_entropy(o, y))))",
              "mean(cross_entropy(o, y)) + 0.1 * mean((o @ o.t)[a, b]^2 for a, b if y[a] != y[b] or a == b)",
              "sum(cross_entropy(o, y)[b] for b if y[b] > 0) / (1 + sum(1.0 for b if y[b] > 0))", "topk(cross_entropy(o, y), 1)[0][0]")
OF_VALUES = ("mse(o, y)", "mae(o, y)", "huber(o, y)", "mean((o - y)^2) + 0.01 * mean(o)^2", "mean(sum((o - y)^2, axis = 1)) / 3", "sqrt(1e-3 + mse(o, y))",
             "bce_logits(o, sigmoid(y))", "sum((o - y)^2) / len(y)", "mean(abs(sort(o[:, 0]) - sort(y[:, 0])))", "mean((std(o, axis = 0) - 1)^2) + mse(o, y)",
             "median_of((o - y)^2)")


def trained(r, batch, classes):
    """The training: `fit` with its options, or loops of their own."""
    o = r.choice(OPTIMISERS).replace("LR", r.choice(RATES))
    if r.random() < 0.25:
        o = f"opt.clipped({o}, {r.choice((0.1, 1.0))})"
    lines = [f"o = {o}"]
    kind = r.randrange(4)
    if kind < 2:
        steps = r.random() < 0.5
        if steps:
            lines.append(f"arg until = {r.randrange(2, 9)}")
        more = ["steps = until, checkpoint = \"state\"" if steps else f"epochs = {r.choice((1, 2, 3))}", f"batch = {batch}"]
        if r.random() < 0.4:
            more.append("validate = d, metrics = {loss" + (", accuracy}" if classes else "}"))
        if r.random() < 0.2:
            more.append("shuffle = false")
        lines.append(f"net, hist = fit(net, loss, d, o, {', '.join(more)})")
    elif kind == 2:
        order = r.choice(("|> shuffle ", ""))
        lines += [f"net, s, hist = fold net, s, l = net, o.init(net), 0.0 for b in data.rows(d) {order}|> batch({batch}) {{",
                  "  l, g, net = value_grad(loss)(net.train, b.x, b.y)", "  net, s = o.update(net, s, g)", "  net, s, l", "}"]
    else:  # gradients added up over two halves of a batch, a running mean of the weights
        lines += [f"net, s, mean_net, hist = fold net, s, m, l = net, o.init(net), net, 0.0 for b in data.rows(d) |> shuffle |> batch({max(2, batch)}) {{",
                  "  n = len(b.x) // 2", "  _, g0, net = value_grad(loss)(net.train, b.x[0:n + 1], b.y[0:n + 1])",
                  "  l, g1, net = value_grad(loss)(net.train, b.x[n:], b.y[n:])", "  net, s = o.update(net, s, 0.5 * (g0 + g1))", "  net, s, 0.9 * m + 0.1 * net, l", "}"]
    return lines


def program(seed):
    r = random.Random(seed)
    kind = r.choice(("vector", "vector", "image", "sequence"))
    rows, batch = r.choice((1, 2, 7, 9, 16, 33, 50, 101)), r.choice((1, 2, 3, 7, 8, 13, 16, 32, 64))
    classes, out = r.random() < 0.55, r.choice((1, 2, 3, 5, 10))
    out = max(out, 2) if classes else out
    if kind == "vector":
        f = r.choice((1, 3, 9, 16, 40))
        net, x, param = Network(r, (f,)), f"[randn() + f32(n % 7) for n in 0..{rows}, i in 0..{f}]", f"x: [B, {f}]"
    elif kind == "image":
        c, a = r.choice((1, 2, 3)), r.choice((5, 6, 9))
        net, x, param = Network(r, (c, a, a + 1)), f"[randn() + f32(n % 5) for n in 0..{rows}, c in 0..{c}, i in 0..{a}, j in 0..{a + 1}]", f"x: [B, {c}, {a}, {a + 1}]"
    else:
        t, d = r.choice((1, 3, 6)), r.choice((4, 6))
        net, x, param = Network(r, (t, d)), f"[(n * n + 3 * n * i + i * i) % 11 for n in 0..{rows}, i in 0..{t}]", f"x: int[B, {t}]"
        net.fields.append(f"embed = Embed(11, {d})")
        net.lines.append("h = embed(x)")
    if kind != "sequence":
        net.lines.append("h = x")
    for _ in range(r.randrange(0, 4)):
        getattr(net, kind)()
    net.flat()
    for _ in range(r.randrange(0, 4)):
        net.vector()
    net.lines.append(f"{net.field(f'Dense({net.shape[0]}, {out})')}(h)")
    y = f"[(n * n + n // 3) % {out} for n in 0..{rows}]" if classes else f"[sin(f32(n * (j + 1))) + 0.1 * randn() for n in 0..{rows}, j in 0..{out}]"
    loss = r.choice(OF_CLASSES if classes else OF_VALUES)
    text = ["import opt, data", f"seed({r.randrange(100)})", "def median_of(e) = sort(e.reshape(-1))[len(e) // 2]", "model Net() {", *("  " + l for l in net.fields), f"  def apply({param}) {{",
            *("    " + l for l in net.lines), "  }", "}", f"def loss(net, x, y) {{", "  o = net(x)", f"  {loss}", "}", "net = Net()",
            f"d = seeded(5, () -> {{x: {x}, y: {y}}})", *trained(r, batch, classes)]
    text += [f"p = predict(net, d.x, batch = {r.choice((4, 10, 64))})", f"e = evaluate(net, d, {{loss}}, batch = {r.choice((5, 13, 64))})",
             'save({net, hist, p, e}, "result.safetensors")', "print(e.loss, hist)"]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for i in range(count):
        open(f"{folder}/{i}.tg", "w").write(program(seed * 1000003 + i))
