"""What `train` and `ranks` share: the networks of networks/ and torch_train.py, and the time of one of their steps on either side."""
import os
import re
import resource
import shutil
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
# rows a step, steps an epoch, epochs of the short and the long run, steps of PyTorch's run
cases = {"mlp": (64, 937.5, 1, 3, 300), "cnn": (64, 937.5, 1, 2, 100), "lstm": (32, 20, 1, 3, 10), "gpt": (16, 20, 1, 3, 10)}


def find_torch(build):
    for p in (os.environ.get("BENCH_PYTHON"), os.path.join(build, "venv", "bin", "python"), "python3"):
        if p and shutil.which(p) and subprocess.run([p, "-c", "import torch"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return p
    print("PyTorch is not installed: pip install torch into %s (for infer: onnx and onnxruntime, too)" % os.path.join(build, "venv"))
    sys.exit(2)


def torch_version(python):
    return subprocess.run([python, "-c", "import torch; print(torch.__version__)"], stdout=subprocess.PIPE, text=True).stdout.strip()


def run_tg(build, name, epochs, *options):
    before, t = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([os.path.join(build, "tg"), os.path.join(here, "networks", name + ".tg"), "--epochs", str(epochs), *options],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    t, after = time.perf_counter() - t, resource.getrusage(resource.RUSAGE_CHILDREN)
    return t, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def runs_tg(build, name, *options, batch=None):
    """Seconds and processor seconds of a short and of a long run. batch: of mlp and cnn, another one."""
    _, _, short, long, _ = cases[name]
    options = (*options, "--batch", str(batch)) if batch else options
    return run_tg(build, name, short, *options), run_tg(build, name, long, *options)


def step_tg(name, short, long, batch=None):
    """Of a step: a long run less a short one, so compiling is left out. Of several rounds give the fastest of each: the least difference
    would be that of a short run which something held up."""
    usual, per_epoch, a, b, _ = cases[name]
    return (long - short) / (b - a) / (per_epoch * usual / (batch or usual))


def time_tg(build, name, *options, batch=None):
    """Seconds and processor seconds of a step, of one round."""
    short, long = runs_tg(build, name, *options, batch=batch)
    return tuple(step_tg(name, x, y, batch) for x, y in zip(short, long))


def time_torch(python, name, threads, ranks=1, batch=None):
    """The same of PyTorch; ranks > 1: DistributedDataParallel over gloo, as many processes, the batch shared out; the slowest counts."""
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), ATEN_CPU_CAPABILITY="avx512")
    words = [python, os.path.join(here, "torch_train.py"), name, str(threads), str(cases[name][4])] + (["cpu", str(batch)] if batch else [])
    if ranks > 1:
        env.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(20000 + os.getpid() % 20000), WORLD_SIZE=str(ranks), GLOO_SOCKET_IFNAME="lo")
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(env, RANK=str(r)) if ranks > 1 else env) for r in range(ranks)]
    out = [p.communicate()[0] for p in running]
    if any(p.returncode for p in running):
        sys.exit("torch_train.py failed on %s" % name)
    return tuple(max(v) for v in zip(*(map(float, re.findall(r"[0-9.]+", o)) for o in out)))
