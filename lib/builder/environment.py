"""Set up .venv from the pins, show how far it is, and say in one line what to do when it fails.

Run by the Makefile as `python3 -I lib/builder/environment.py [root]`. It needs the standard library alone
and starts on any Python 3.6 or later, so that an old Python is told so kindly. A stamp,
.venv/.ready, holds the hash of the pins: a half-made environment is completed the next time, and a
changed pin is installed.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

VERSION = ".".join(map(str, sys.version_info[:2]))
NEEDED = (3, 11)
PINS = ("requirements.txt", "constraints.txt", "pyproject.toml")
NEWER = ("python3.11", "python3.12", "python3.13", "python3.14")
QUIET = 10.0  # seconds between two lines when they cannot be rewritten

# what pip's log says -> what to do; the first match counts
CURES = (
    (r"No space left on device|Errno 28\b|Disk quota exceeded",
     "the disk is full: free some gigabytes and run make again"),
    (r"Temporary failure in name resolution|Name or service not known|NewConnectionError|"
     r"getaddrinfo|Failed to establish a new connection|Network is unreachable|Connection refused|"
     r"ProxyError|ConnectTimeoutError|ReadTimeoutError|Connection reset|IncompleteRead|"
     r"nodename nor servname",
     "the package index cannot be reached: check the network "
     "(or PIP_INDEX_URL) and run make again"),
    (r"THESE PACKAGES DO NOT MATCH THE HASHES",
     "a download is damaged: run make again"),
    (r"No matching distribution found for (\S+)",
     "there is no build of {0} for this Python ({python}): use Python 3.11, 3.12 or 3.13"),
    (r"Permission denied|Errno 13\b|Read-only file system",
     ".venv cannot be written: check the folder's permissions and run make again"),
)  # fmt: skip


class SetUpFailed(Exception):
    """The message is the one line that the reader sees."""


def fingerprint(root):
    """Hash of the pins (and of the Python version that they were installed for)."""
    digest = hashlib.sha256()
    for name in PINS:
        path = os.path.join(root, name)
        if os.path.exists(path):
            with open(path, "rb") as file:
                digest.update(name.encode() + b"\0" + file.read())
    return digest.hexdigest()


def is_ready(root):
    """Was .venv completed for exactly these pins?"""
    try:
        with open(os.path.join(root, ".venv", ".ready"), encoding="utf-8") as file:
            stamped = file.read().strip()
    except OSError:
        return False
    return stamped == fingerprint(root) and os.access(venv_python(root), os.X_OK)


def venv_python(root):
    return os.path.join(root, ".venv", "bin", "python")


def new_enough(version=None):
    """The path of a Python that is new enough: this one, or one on PATH.

    Raises:
        SetUpFailed: there is none.
    """
    version = version or sys.version_info[:2]
    if version >= NEEDED:
        return sys.executable
    for name in NEWER:
        path = shutil.which(name)
        if path:
            return path
    found = ".".join(map(str, version))
    raise SetUpFailed(
        f"Python 3.11 or newer is needed, this is {found}: install it (Debian, Ubuntu: apt install "
        "python3.11 python3.11-venv; macOS: brew install python@3.11) and run make again"
    )


class Line:
    """One progress line: rewritten on a terminal, otherwise printed now and then."""

    def __init__(self, out=None):
        self.out = out or sys.stdout
        self.rewrites = self.out.isatty()
        self.began = self.printed = time.monotonic()

    def show(self, text, now=False):
        elapsed = time.monotonic() - self.began
        if self.rewrites:
            width = shutil.get_terminal_size().columns
            self.out.write("\r\x1b[K" + f"set-up  {elapsed:4.0f} s  {text}"[: width - 1])
        elif now or time.monotonic() - self.printed >= QUIET:
            self.printed = time.monotonic()
            self.out.write(f"set-up  {elapsed:4.0f} s  {text}\n")
        self.out.flush()

    def end(self, text=""):
        if self.rewrites:
            self.out.write("\r\x1b[K")
        if text:
            self.out.write(text + "\n")
        self.out.flush()


class Reader:
    """Reads pip's output and says in words how far it is."""

    def __init__(self, site):
        self.site, self.found, self.text = site, 0, "asking the package index"
        self.total, self.before = 0, 0

    def read(self, line):
        collecting = re.match(r"Collecting ([A-Za-z0-9._-]+)", line)
        loading = re.match(r"\s*Downloading (\S+) \((.*?)\)", line)
        installing = re.match(r"Installing collected packages: (.*)", line)
        if collecting:
            self.found += 1
            self.text = f"{self.found} packages so far: {collecting.group(1)}"
        elif loading and ".metadata" not in line:
            name = os.path.basename(loading.group(1)).split("-")[0]
            self.text = f"{self.found} packages so far: downloading {name} ({loading.group(2)})"
        elif installing:
            self.total = installing.group(1).count(",") + 1
            self.before = self._count()

    def _count(self):
        try:
            return sum(name.endswith(".dist-info") for name in os.listdir(self.site))
        except OSError:
            return 0

    def now(self):
        if self.total:
            done = max(0, min(self._count() - self.before, self.total))
            return f"installing: {done} of {self.total} packages"
        return self.text


def explain(log, path):
    """One line on what to do, from pip's log."""
    for pattern, cure in CURES:
        match = re.search(pattern, log)
        if match:
            return cure.format(*match.groups(), python=VERSION)
    return f"pip failed: its messages are in {path}"


def run(command, root, line, log):
    """Run pip, keep its output in the log, show progress; raise SetUpFailed if it fails."""
    import selectors

    reader = Reader(os.path.join(root, ".venv", "lib", "python" + VERSION, "site-packages"))
    start = log.tell()
    environment = dict(os.environ, PYTHONUNBUFFERED="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        bufsize=0,  # select must see every line at once
    )  # fmt: skip
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=0.5):
                    raw = process.stdout.readline()
                    if not raw:
                        break
                    text = raw.decode("utf-8", "replace")
                    log.write(text)
                    log.flush()
                    reader.read(text)
                line.show(reader.now())
        failed = process.wait() != 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if failed:
        log.seek(start)
        raise SetUpFailed(explain(log.read(), os.path.relpath(log.name)))


def install(root, line, extras=""):
    """Create .venv if it is missing or broken, install the pins and this project, set the stamp.

    `extras` are those of pyproject.toml.
    """
    folder, python = os.path.join(root, ".venv"), venv_python(root)
    works = os.path.exists(python) and subprocess.call(
        [python, "-c", "import sys, pip; sys.exit(sys.version_info[:2] < (3, 11))"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) == 0  # fmt: skip
    if not works:
        line.show("creating .venv", now=True)
        done = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", folder],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            if "ensurepip" in done.stdout:
                raise SetUpFailed(
                    "Python's venv module is missing: install it (Debian, Ubuntu: apt install "
                    f"python{VERSION}-venv) and run make again"
                )
            if any(re.search(pattern, done.stdout) for pattern, _ in CURES):
                raise SetUpFailed(explain(done.stdout, ".venv"))
            reason = (done.stdout.strip().splitlines() or ["unknown reason"])[-1]
            raise SetUpFailed(f".venv cannot be created: {reason}")
    with contextlib.suppress(OSError):
        os.remove(os.path.join(folder, ".ready"))
    pip = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off", "--retries", "2"]
    with open(os.path.join(folder, "install.log"), "w+", encoding="utf-8") as log:
        line.show("installing what requirements.txt names", now=True)
        run([*pip, "-r", "requirements.txt"], root, line, log)
        if os.path.exists(os.path.join(root, "pyproject.toml")):
            run([*pip, "--no-deps", "-e", "."], root, line, log)
        if extras:
            run([*pip, "-c", "constraints.txt", "-e", ".[" + extras + "]"], root, line, log)
    with open(os.path.join(folder, ".ready"), "w", encoding="utf-8") as file:
        file.write(fingerprint(root) + "\n")


def main(root, extras=""):
    """Make .venv ready, with `extras` of pyproject.toml; return the exit code."""
    line = Line()
    try:
        if is_ready(root) and not extras:
            return 0
        python = new_enough()
        if python != sys.executable:
            return subprocess.call([python, "-I", os.path.abspath(__file__), root, extras])
        import fcntl

        os.makedirs(os.path.join(root, ".cache"), exist_ok=True)
        with open(os.path.join(root, ".cache", "environment.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second finds it done
            if extras or not is_ready(root):
                install(root, line, extras)
                line.end(f"set-up  done in {time.monotonic() - line.began:.0f} s")
        return 0
    except SetUpFailed as failure:
        line.end()
        sys.stderr.write(f"error: {failure}\n")
    except KeyboardInterrupt:
        line.end()
        sys.stderr.write("interrupted: run make again to complete the set-up\n")
        return 130
    except OSError as error:
        line.end()
        sys.stderr.write(f"error: {explain(str(error), '.venv/install.log')} ({error.strerror})\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "."), *sys.argv[2:3]))
