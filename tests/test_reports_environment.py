"""Set-up: complete or not at all, shown while it works, and one line when it fails."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lib.builder import environment

SCRIPT = Path(environment.__file__)


def wheel(folder, name, version):
    """A package of one module, made by hand: pip installs it without any network."""
    info = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": about,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        rows.append(f"{path},sha256={digest.rstrip(b'=').decode()},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, ""])
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return made


def set_up(root, **environ):
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    settings |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(root)],
        env=settings | environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def version_in(root):
    code = "import tiny; print(tiny.version)"
    python = root / ".venv/bin/python"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder in which set-up has failed for lack of a network, then succeeded."""
    folder = tmp_path_factory.mktemp("set-up")
    wheel(folder, "tiny", "1.0")
    wheel(folder, "tiny", "2.0")
    return folder


def test_no_network_then_success_then_nothing_to_do_then_a_changed_pin(root):
    (root / "requirements.txt").write_text("surely-not-here==1.0\n")
    done = set_up(root)
    assert done.returncode == 1
    assert re.fullmatch(r"error: the package index cannot be reached: [^\n]*\n", done.stderr)
    assert "creating .venv" in done.stdout
    assert "Retrying" in (root / ".venv/install.log").read_text()
    assert not (root / ".venv/.ready").exists()

    (root / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
    done = set_up(root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "set-up  done in" in done.stdout
    assert version_in(root) == "1.0"

    done = set_up(root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    (root / "requirements.txt").write_text("./tiny-2.0-py3-none-any.whl\n")
    assert set_up(root).returncode == 0
    assert version_in(root) == "2.0"

    (root / ".venv/bin/python").unlink()  # a broken environment is made anew
    assert set_up(root).returncode == 0
    assert version_in(root) == "2.0"


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(environment.SetUpFailed, match=r"3\.11 or newer is needed, this is 3\.9"):
        environment.new_enough((3, 9))
    assert environment.new_enough((3, 11)) == sys.executable


def test_an_old_python_finds_a_newer_one(monkeypatch, tmp_path):
    newer = tmp_path / "python3.12"
    newer.write_text("#!/bin/sh\n")
    newer.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.new_enough((3, 8)) == str(newer)


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("Failed to establish a new connection: [Errno 111]", "cannot be reached"),
        (
            "WARNING: Retrying: Temporary failure in name resolution\n"
            "ERROR: No matching distribution found for torch==2",
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for torch==2", "no build of torch==2 for this"),
        ("OSError: [Errno 13] Permission denied: '.venv'", "cannot be written"),
        ("something else", "its messages are in .venv/install.log"),
    ],
)
def test_failures_end_in_one_line_on_what_to_do(log, says):
    line = environment.explain(log, ".venv/install.log")
    assert says in line
    assert "\n" not in line


def test_progress_says_which_package_and_how_many(tmp_path):
    reader = environment.Reader(str(tmp_path))
    reader.read("Collecting numpy==2.4.6 (from -r requirements.txt (line 2))\n")
    reader.read("  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (18.2 MB)\n")
    assert reader.now() == "1 packages so far: downloading numpy (18.2 MB)"
    reader.read("Installing collected packages: numpy, scipy, torch\n")
    (tmp_path / "numpy-2.4.6.dist-info").mkdir()
    assert reader.now() == "installing: 1 of 3 packages"


def test_it_starts_on_an_old_python():
    """No syntax that Python 3.6 does not know: it must run in order to say that it is too old."""
    import ast

    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
