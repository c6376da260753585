"""What the checks of the CUDA back end share: tg on a device that the host plays (tests/cuda_host/), and who compiles for real."""
import glob, os, shutil, tempfile
from harness import TG, run

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(os.path.dirname(TG), "tests")
FAKE = os.path.join(TOOLS, "libfake_cuda.so")
ORDERS = ("forward", "reverse", "shuffle")
WORK = tempfile.TemporaryDirectory()
CACHE = os.path.join(WORK.name, "cache")
KEEP = os.path.join(WORK.name, "keep")  # sources of all kernels that were compiled
os.makedirs(KEEP)
ENV = {"TG_CUDA_DRIVER": FAKE, "TG_NVRTC": FAKE, "TG_CACHE_DIR": CACHE, "TG_FAKE_KEEP": KEEP}
RACE = {**ENV, "TG_FAKE_RACE": "1"}


def there(t):
    """False after a failed check if the host can't play the device: the library and its compiler."""
    ok = os.path.exists(FAKE) and shutil.which("tcc") and shutil.which("gcc")
    return ok or t.check("the fake driver, tcc and gcc are there", False, FAKE)


def cuda(*args, text=None, order="forward", limit=120, **env):
    return run(*args, "--device", "cuda", text=text, limit=limit, env={**ENV, "TG_FAKE_ORDER": order, **env})


def nvrtc():
    """Path of an NVRTC in the virtual environments of tests, newest first; "" where there is none: tg looks elsewhere."""
    root = os.path.dirname(TG), os.path.join(HERE, "..", "build")
    below = "venv*/lib/python3*/site-packages/nvidia/cu1?/lib", "venv*/lib/python3*/site-packages/nvidia/cuda_nvrtc/lib"
    found = [p for r in root for b in below for p in glob.glob(os.path.join(r, b, "libnvrtc.so.1?"))]
    return os.path.abspath(max(found, key=lambda p: int(p.rsplit(".", 1)[1]))) if found else ""
