"""Make .venv from the pins, with pip's own progress; arguments are extras of pyproject.toml.

The standard library alone, on any Python from 3.6, so that an old one is told so kindly.
A stamp, .venv/.ready, says which pins .venv was made from.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

PYTHON, STAMP = ".venv/bin/python", ".venv/.ready"


def pins():
    digest = hashlib.sha256()
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        digest.update(open(name, "rb").read())  # noqa: SIM115
    return digest.hexdigest()


def is_ready():
    return os.path.exists(STAMP) and os.access(PYTHON, os.X_OK) and open(STAMP).read() == pins()


def install(extras):
    if os.path.exists(STAMP):
        os.remove(STAMP)  # what is half made is completed the next time
    if not os.path.exists(PYTHON) or subprocess.call([PYTHON, "-c", "import pip"]):
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", ".venv"])
    pip = [PYTHON, "-m", "pip", "install", "-c", "constraints.txt"]
    subprocess.check_call([*pip, "-e", ".[%s]" % ",".join(["test", *extras])])
    with open(STAMP, "w") as stamp:
        stamp.write(pins())


def main(extras):
    if sys.version_info < (3, 11):
        for path in filter(None, (shutil.which("python3.%d" % minor) for minor in range(11, 15))):
            os.execv(path, [path, "-I", os.path.abspath(__file__), *extras])
        sys.exit("error: Python 3.11 or newer is needed, this is %d.%d" % sys.version_info[:2])
    if extras or not is_ready():
        os.makedirs(".cache", exist_ok=True)
        with open(".cache/environment.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second finds it done
            if extras or not is_ready():
                install(extras)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (subprocess.CalledProcessError, OSError) as error:
        free = shutil.disk_usage(".").free // 10**9
        needs = f"the network (or PIP_INDEX_URL) and 8 GB of disk ({free} GB free); run make again"
        sys.exit(f"error: set-up stopped: {error}. It needs {needs}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run make again to complete the set-up")
