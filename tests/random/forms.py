"""More ways to make a tensor, for generate.py: definitions with generic dims, records and tuples, nested and batched
comprehensions, library functions, loops of several states, changed copies, data-dependent subscripts; and whole programs of
integers and bools. Each method writes what it needs to self.lines and gives an expression of the shape `s`."""


class Forms:
    def more(self, s):
        forms = [self.definition, self.record, self.branch, self.two_states, self.fold_while, self.record_state, self.custom, self.seeded_name]
        if s and 0 not in s:
            forms += [self.nested, self.batched, self.library, self.at, self.rows, self.windows, self.diagonal, self.einsum, self.recur, self.unrolled,
                      self.data_subscripts, self.chained_views, self.double_sum, self.product, self.tuple_body, self.inner_grad, self.strided_conv, self.counter_loop]
            if not self.smooth:
                forms += [self.extremes, self.extremes, self.sorted, self.position, self.running]
        return forms

    def ranges(self, s):
        i = [self.index() for _ in s]
        return i, ", ".join(f"{k} in 0..{n}" if self.r.random() < 0.6 else k for k, n in zip(i, s)), ", ".join(f"{k} in 0..{n}" for k, n in zip(i, s))

    def definition(self, s, d):
        f, a, b = self.name(), self.bound(s, d), self.bound(s, 0)
        dims = "".join("NMKLPQUVW"[k] + ", " for k in range(len(s)))[:-2]
        t = f"[{dims}]" if s else self.dtype
        body = self.r.choice([f"sin(p) * {'N * 0.25' if s else '0.25'} + q", "p * q - p", "{ u = p * 0.5; v = u + q; u * v }"])
        self.lines.append(f"def {f}(p: {t}, q: {t}) -> {t} {'= ' + body if body[0] != '{' else body}")
        return self.r.choice([f"{f}({a}, {b})", f"{a}.{f}({b})", f"({a} |> {f}({b}))", f"{f}(q = {b}, p = {a})"])

    def record(self, s, d):
        r, a, b = self.name(), self.bound(s, d), self.bound(s, 0)
        self.lines.append(f"{r} = {{u: {a}, v: ({b}, {a})}}")
        return self.r.choice([f"({r}.u * {r}.v[0])", f"({r} * 0.5).u", f"({r} + {r}).v[1]", f"({{...{r}, u: {b}}}).u", f"tanh({r}).v[0]"])

    def branch(self, s, d):
        a, b, c = self.bound(s, d), self.bound(s, d), self.bound((), 0)
        return f"({a} * 2 if {c} > 0.01 else sin({b}))"

    def two_states(self, s, d):
        a, b, p, q, t = self.bound(s, d), self.bound(s, 0), self.name(), self.name(), self.index()
        k = self.r.choice([0, 1])
        return f"(fold {p}, {q} = {a}, {b} for {t} in 0..{self.r.choice([1, 2, 4])} {{ tanh({p} + {q} * 0.5), {q} * 0.9 + sin({p}) }})[{k}]"

    def fold_while(self, s, d):
        a, st, t = self.bound(s, d), self.name(), self.index()
        return f"(fold {st} = {a} for {t} in 0..{self.r.choice([2, 5, 9])} while {t} < {self.r.choice([0, 1, 3])} {{ {st} * 0.5 + cos({st}) }})"

    def record_state(self, s, d):
        a, b, st, t = self.bound(s, d), self.bound((), 0), self.name(), self.index()
        return f"(fold {st} = {{m: {a}, n: {b}}} for {t} in 0..{self.r.choice([1, 2, 3])} {{ {{m: {st}.m * 0.5 + {st}.n, n: sin({st}.n)}} }}).m"

    def custom(self, s, d):
        return f"custom_grad(z -> sin(z), (z, y, dy) -> dy * cos(z))({self.tensor(s, d)})"

    def seeded_name(self, s, d):
        a, n = self.tensor(s, d), self.name()
        self.lines.append(f"{n} = {a}")
        self.lines.append(f"{n} = {n} * 0.5 + 0.25")
        return n

    def nested(self, s, d):
        a, (i, free, fixed) = self.bound(s, d), self.ranges(s)
        b = self.bound((s[-1],), 0)
        body = f"{a}[{', '.join(i)}] * {b}[{i[-1]}]"
        for k, n in reversed(list(zip(i, s))):
            body = f"[{body} for {k} in 0..{n}]"
        return body

    def batched(self, s, d):
        if len(s) < 2:
            return self.unary(s, d)
        a, i = self.bound(s, d), self.index()
        f = self.r.choice(["softmax({})", "layer_norm({})" if s[-1] > 2 else "softmax({})", "tanh({}) * sum({})", "cumsum({}, axis = 0) * 0.3", "flip({})", "({})[::-1]", "roll({}, 1, axis = 0)"])
        return f"[{f.format(*[f'{a}[{i}]'] * f.count('{}'))} for {i}]"

    def library(self, s, d):
        a = self.tensor(s, d)
        f = ["softmax({})", "log_softmax({})", "gelu({})", "silu({})", "{} - logsumexp({}, axis = -1, keepdims = true)", "{} / (norm({}, axis = -1, keepdims = true) + 1)",
             "{} * var({}, axis = -1, keepdims = true)", "softmax({}, axis = 0)"]
        if s[-1] > 2:
            f.append("layer_norm({} * 2)")
        return self.r.choice(f).replace("{}", f"({a})")

    def at(self, s, d):
        a, n = self.bound(s, d), s[0]
        m = self.size()
        at = self.name()
        self.lines.append(f"{at} = argsort([({self.r.choice([3, 5, 7])} * j) % 13 for j in 0..{m}]) % {n}")
        v = self.bound((m,) + s[1:], 0)
        k = self.r.randrange(n)
        return self.r.choice([f"{a}.at[{at}].add({v})", f"{a}.at[{k}].set({self.bound(s[1:], 0)})", f"{a}.at[{k}:].add(1)", f"{a}.at[::2].set({a}[::2] * 0.5)",
                              f"{a}.at[argsort({at}[0:{min(n, m)}])].add({v}[0:{min(n, m)}])" if n >= m else f"{a}.at[-1].add(0.5)"])

    def rows(self, s, d):
        n = self.size()
        a, r = self.bound(s + (n,), d), self.index()
        if len(s) == 1:
            return self.r.choice([f"[sum({r} * {r}) for {r} in {a}]", f"[mean(sin({r})) for {r} in {a}]", f"[sum({r}) * {r}[0] for {r} in {a}]"])
        return f"[{r} @ {self.bound((n,), 0)} for {r} in {a}]"

    def windows(self, s, d):
        w = self.r.choice([1, 2, 3])
        a, (i, _, fixed) = self.bound(s[:-1] + (s[-1] + w - 1,), d), self.ranges(s)
        k, f = self.index(), self.r.choice(["sum", "mean"])
        return f"[{f}({a}[{', '.join(i[:-1] + [f'{i[-1]} + {k}'])}] * ({k} + 1) for {k} in 0..{w}) for {fixed}]"

    def diagonal(self, s, d):
        a, (i, _, fixed) = self.bound(s[:1] + s, d), self.ranges(s)
        return f"[{a}[{', '.join([i[0]] + i)}] * 0.5 for {fixed}]"

    def einsum(self, s, d):
        if len(s) != 2:
            return self.unary(s, d)
        k = self.size()
        a, b, c = self.bound((s[0], k), d), self.bound((s[1], k), 0), self.bound((k,), 0)
        return self.r.choice([f'einsum("ik,jk->ij", {a}, {b})', f'einsum("ik,jk,k->ij", {a}, {b}, {c})', f"{a} @ {b}.t", f"({b} @ {a}.t).t", f"({a} * {c}) @ {b}.t"])

    def recur(self, s, d):
        n, st, r = self.size(), self.name(), self.index()
        if n > 7 or len(s) > 2:
            return self.unary(s, d)
        x = self.bound((n,) + s, d)
        init = self.bound(s, 0)
        return f"(fold {st} = {init} for {r} in {x} {{ tanh({st} * 0.7 + {r}) }})"

    def counter_loop(self, s, d):
        a, st, t = self.bound(s, d), self.name(), self.index()
        x = self.bound((3,), 0)
        return f"(fold {st} = {a} for {t} in 0..3 {{ {st} * {x}[{t}] + {x}[2 - {t}] }})"

    def unrolled(self, s, d):
        a, b, v = self.bound(s, d), self.bound(s, 0), self.name()
        return self.r.choice([f"sum({v} * 0.5 for {v} in ({a}, {b}, {a}))", f"[{v} * 2 for {v} in ({a}, {b})][1]", f"(fold {v} = {a} for w in (0.5, 1.5) {{ sin({v}) * w }})"])

    def data_subscripts(self, s, d):
        n = self.size()
        a, (i, _, fixed), at = self.bound((n,) + s[1:], d), self.ranges(s), self.name()
        self.lines.append(f"{at} = argsort([({self.r.choice([3, 5, 7])} * j + 2) % 17 for j in 0..{s[0]}]) % {n}")
        sub = ", ".join([f"{at}[{i[0]}]"] + i[1:])
        return self.r.choice([f"[{a}[{sub}] * ({i[0]} + 1) * 0.2 for {fixed}]", f"[{a}[{sub}] if {at}[{i[0]}] > 0 else 0.5 for {fixed}]",
                              f"[sum({a}[{sub}] for {i[0]} if {at}[{i[0]}] <= z) for z in 0..{s[0]}{''.join(', ' + f'{k} in 0..{m}' for k, m in zip(i[1:], s[1:]))}]"])

    def chained_views(self, s, d):
        a = self.tensor(s, d)
        flat = 1
        for n in s:
            flat *= n
        shape = ", ".join(map(str, s))
        return self.r.choice([f"(({a})[::-1]).reshape({flat}).reshape({shape})", f"concat({a}, {a})[{s[0]}:]", f"pad({a}, 1)[{', '.join('1:-1' for _ in s)}]",
                              f"repeat({a}, 2, axis = 0)[::2]", f"({a})[none][0]", f"stack({a}, {a}, axis = 1)[:, 0]", f"split(concat({a}, {a}, axis = -1), 2, axis = -1)[1]"])

    def double_sum(self, s, d):
        n, m = self.size(), self.size()
        if len(s) > 2 or n * m > 120:
            return self.unary(s, d)
        a, b, (i, _, fixed) = self.bound(s + (n,), d), self.bound((n, m), 0), self.ranges(s)
        k, l = self.index(), self.index()
        return self.r.choice([f"[sum({a}[{', '.join(i + [k])}] * {b}[{k}, {l}] for {k}, {l}) for {fixed}]", f"[sum(sum({b}[{k}, {l}] for {l}) * {a}[{', '.join(i + [k])}] for {k}) for {fixed}]",
                              f"[sum(sin({a}[{', '.join(i + [k])}] + {b}[{k}, {l}]) for {k}, {l} if {l} <= {k}) for {fixed}]"])

    def product(self, s, d):
        n = self.r.choice([1, 2, 3])
        a, (i, _, fixed), k = self.bound(s + (n,), d), self.ranges(s), self.index()
        return self.r.choice([f"prod({a}, axis = -1)", f"[prod({a}[{', '.join(i + [k])}] + 0.5 for {k}) for {fixed}]", f"cumprod({a}, axis = -1)[..., -1]"])

    def tuple_body(self, s, d):
        a, (i, _, fixed) = self.bound(s, d), self.ranges(s)
        e = f"{a}[{', '.join(i)}]"
        return self.r.choice([f"[({e}, sin({e})) for {fixed}][1]", f"[{{u: {e} * 2, v: {e}}} for {fixed}].u"])

    def inner_grad(self, s, d):
        return self.r.choice(["grad(z -> sum(sin(z) * z))({})", "grad(z -> sum(z^2)^2 * 0.05)({})", "jvp(z -> tanh(z) * z)({0}, {0})[1]", "value_grad(z -> sum(z^3) * 0.1)({})[1]"]).format(self.bound(s, d))

    def strided_conv(self, s, d):
        if len(s) < 2:
            return self.unary(s, d)
        st, r = self.r.choice([1, 2, 3]), self.r.choice([1, 2, 3])
        x, w = self.bound(s[:-2] + ((s[-2] - 1) * st + r, s[-1] + r - 1), d), self.bound((r, r), 0)
        i, p, q = [self.index() for _ in s], self.index(), self.index()
        at = ", ".join(i[:-2] + [f"{st} * {i[-2]} + {p}" if st > 1 else f"{i[-2]} + {p}", f"{i[-1]} + {q}"])
        return f"[sum({x}[{at}] * {w}[{p}, {q}] for {p}, {q}) for {', '.join(i)}]"

    # ---- with kinks or steps: not under differences ------------------------------------------------------------------------
    def extremes(self, s, d):
        n = self.size()
        a, (i, _, fixed), k = self.bound(s + (n,), d), self.ranges(s), self.index()
        e = f"{a}[{', '.join(i + [k])}]"
        f = self.r.choice(["max", "min"])
        return self.r.choice([f"[{f}({e} for {k}) for {fixed}]", f"{f}({a}, axis = -1)", f"[{f}({e} * {k} for {k}) for {fixed}]", f"clip({a}, -0.5, 0.5)[..., 0]",
                              f"[{f}({e} for {k} if {k} % 2 == 0) for {fixed}]"])

    def sorted(self, s, d):
        a = self.tensor(s, d)
        return self.r.choice([f"sort({a})", f"sort({a}, axis = 0)", f"topk({a}, {s[-1]})[0]", f"({a})[argsort(({a}).reshape({s[0]}, -1)[:, 0] + [{self.dtype}(j * 0.00137) for j in 0..{s[0]}])]"])

    def position(self, s, d):
        n = self.size()
        a, (i, _, fixed), k = self.bound(s + (n,), d), self.ranges(s), self.index()
        e = f"{a}[{', '.join(i + [k])}]"
        form = self.r.choice([f"[argmax({e} + {self.dtype}({k} * 0.00137) for {k}) for {fixed}] * 0.5", f"[argmin({e} - {self.dtype}({k} * 0.00137) for {k}) for {fixed}]", f"[sum({e} > 0.0137 for {k}) for {fixed}] * 0.25",
                              f"[any({e} > 0.5137 for {k}) for {fixed}]", f"where(all({a} > -1.4863, axis = -1), 0.5, 1)"])
        return f"{self.dtype}({form})"

    def running(self, s, d):
        a = self.tensor(s, d)
        return self.r.choice([f"cummax({a}, axis = -1)", f"cummin({a}, axis = 0)", f"cumsum({a}, axis = 0, reverse = true) * 0.25", f"cummax(({a})[::-1], axis = 0)"])


class Integers:
    """Programs over integers and bools: every value is compared exactly."""

    def __init__(self, rng):
        self.r, self.lines, self.n = rng, [], 0
        self.dtype = rng.choice(["i64", "i64", "i32", "u8", "i16", "i8"])

    def name(self):
        self.n += 1
        return f"v{self.n}"

    def fill(self, s):
        i = [f"i{k}" for k in range(len(s))]
        lin = " + ".join(f"{k} * {self.r.choice([3, 5, 9, 17])}" for k in i) or "3"
        m = self.r.choice([7, 31, 100])
        lo = 0 if self.dtype == "u8" else self.r.choice([0, -m // 2])
        return f"{self.dtype}([({lin} + {self.r.randint(0, 20)}) % {m} + {lo} for {', '.join(f'{k} in 0..{n}' for k, n in zip(i, s))}])"

    def value(self, s, depth):
        n = self.name()
        self.lines.append(f"{n} = {self.fill(s) if depth <= 0 else self.form(s, depth - 1)}")
        return n

    def form(self, s, d):
        r, v = self.r, self.value
        a, b = v(s, d), v(s, d - 1)
        if 0 in s:
            return r.choice([f"{a} + {b}", f"{a} * {b} - 1", f"max({a}, {b})", f"where({a} > {b}, {a}, {b})", f"sort({a})", f"{a}[::-1]"])
        i = [f"j{self.n}_{k}" for k in range(len(s))]
        at = ", ".join(i)
        rng = ", ".join(f"{k} in 0..{n}" for k, n in zip(i, s))
        n = r.choice([0, 1, 2, 3, 5, 17])
        big = v(s + (n,), d - 1)
        k = f"k{self.n}"
        cast = self.dtype
        forms = [f"{a} + {b}", f"{a} - {b}", f"{a} * {b}", f"{a} // ({b} * {b} % 5 + 1)", f"{a} % ({b} * {b} % 7 + 1)", f"max({a}, {b})", f"min({a}, {b})", f"where({a} > {b}, {a}, {b})", f"-{a}",
                 f"abs({a})" if self.dtype != "u8" else f"{a}", f"{cast}(sum({big}, axis = -1))", f"{cast}([sum({big}[{at}, {k}] for {k} if {big}[{at}, {k}] % 2 == 0) for {rng}])",
                 f"[{a}[{at}] * {i[0]} for {rng}] |> {cast}", f"{a}[::-1]", f"concat({a}, {b})[{s[0]}:]", f"sort({a})", f"{cast}(argsort({a}, axis = 0))", f"{cast}({a} == {b}) + {cast}(not ({a} < {b}))",
                 f"{cast}(cumsum({a}, axis = 0))", f"{cast}([sum(1 for {k} in 0..{s[0]} if {a}.reshape({s[0]}, -1)[{k}, 0] % 3 == {i[0]} % 3) for {rng}])", f"{cast}(fold s = {a} for t in 0..3 {{ s * 3 + t }})",
                 f"{a} ^ 2", f"{a}.at[0].set({b}[0])", f"{a}.at[argsort({a}.reshape({s[0]}, -1)[:, 0])].add({b})", f"{cast}(f64({a}) * 0.5)", f"clip({a}, 1, 9)", f"roll({a}, 1, axis = 0)",
                 f"{cast}(({a} > 3 and {b} < 5) or {a} == 1)", f"{a} if {a}[{', '.join('0' for _ in s)}] > 2 else {b}"]
        if n > 0:
            forms += [f"[max({big}[{at}, {k}] for {k}) for {rng}]", f"{cast}([argmax({big}[{at}, {k}] for {k}) for {rng}])", f"min({big}, axis = -1)", f"{cast}(prod({big} % 3, axis = -1))",
                      f"{cast}([any({big}[{at}, {k}] > 3 for {k}) for {rng}])", f"{big}[..., {n - 1}]"]
        if len(s) == 2:
            forms += [f"{cast}({a} @ {v((s[1], s[1]), 0)})", f"{v((s[1], s[0]), d - 1)}.t", f"[{a}[{at}] + {v((s[0],), 0)}[{i[0]}] * {v((s[1],), 0)}[{i[1]}] for {rng}]"]
        return r.choice(forms)

    def program(self):
        for _ in range(self.r.randint(1, 2)):
            s = tuple(self.r.choice([1, 2, 3, 5, 7, 17, 33]) for _ in range(self.r.choice([1, 1, 2])))
            self.value(s, self.r.randint(1, 3))
        return "\n".join(self.lines)
