"""What the checks in tests/check share: running $TG on a text, the tally, the closing line that tests/suite reads.

A run is a Run(code, out, err). A negative code is a signal and -99 a time limit: `crashed` tells both, and reports of sanitizers
and of our own bugs, from honest failures."""
import os, re, resource, subprocess, sys, tempfile

TG = os.path.abspath(os.environ.get("TG", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "tg")))
LONG = os.environ.get("TG_LONG") == "1"
TIME_LIMIT = -99


def sanitized():
    """True when $TG is built with AddressSanitizer: its address space must stay unlimited, and it is several times slower."""
    with open(TG, "rb") as f:
        text = f.read()
    return b"libasan.so" in text or b"ERROR: AddressSanitizer" in text  # gcc's, clang's; LLVM itself names __asan_init


SANITIZED = sanitized()
# The environment of runs in other people's libraries that keep memory to the end: Open MPI, the real NVRTC and NCCL.
KEEPS_MEMORY = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"} if SANITIZED else {}


class Run:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def crashed(self):
        return self.code < 0 or self.code >= 124 and self.code != 130 or bool(
            re.search(r"internal error|Sanitizer|runtime error:|Assertion `|core dumped", self.err))


def run(*args, text=None, limit=120, memory=0, env=None, cwd=None):
    """$TG with `args`; `text` goes to standard input. memory: a limit of the address space in MiB."""
    def before():
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory << 20, memory << 20))
    data = text.encode() if isinstance(text, str) else text
    try:
        p = subprocess.run([TG, *args], input=data, stdin=subprocess.DEVNULL if data is None else None, capture_output=True,
                           timeout=limit * (10 if SANITIZED else 1), preexec_fn=before if memory else None, env={**os.environ, **(env or {})}, cwd=cwd)
    except subprocess.TimeoutExpired:
        return Run(TIME_LIMIT, "", "time limit\n")
    return Run(p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace"))


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, ok, detail=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAIL {name}")
            if detail:
                print("\n".join("  " + l[:400] for l in detail.splitlines()[:40]))
            sys.stdout.flush()
        return ok

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed != 0)


def shown(r):
    return f"exit {r.code}\n{r.out[-2000:]}{r.err[-4000:]}"


def sh(*args, limit=300, **more):
    """Another program, its output as text."""
    try:
        return subprocess.run(args, capture_output=True, text=True, timeout=limit, **more)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(args, -99, "", "time limit")


def report(p):
    return f"{' '.join(map(str, p.args))}: exit {p.returncode}\n{p.stdout[-1500:]}{p.stderr[-2500:]}"


def npy(path, dtype, shape, data):
    """Writes bytes as an .npy file; dtype as in "<f4"."""
    head = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (dtype, shape)
    head += " " * (63 - (10 + len(head)) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data)
