"""Set-up: complete or not at all, and one line on what to do when it fails."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lib.builder import environment

pytestmark = pytest.mark.slow

SCRIPT = Path(environment.__file__)

# a build backend of its own, so that pip needs no index: the project is its requirements
BACKEND = """
import zipfile

def build_editable(folder, config=None, metadata=None):
    needs = open("requirements.txt").read().split()
    about = "Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\nProvides-Extra: test\\n"
    about += "".join(f"Requires-Dist: {need}\\n" for need in needs)
    name = "project-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("project-1.0.dist-info/METADATA", about)
        tag = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("project-1.0.dist-info/WHEEL", tag)
        wheel.writestr("project-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def wheel(folder, version):
    """A package of one module, made by hand."""
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def set_up(root, **environ):
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    settings |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    settings |= {"PIP_FIND_LINKS": str(root), "PIP_RETRIES": "0"}
    return subprocess.run(
        [sys.executable, "-I", SCRIPT],
        cwd=root, env=settings | environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def version_in(root):
    code = "import tiny; print(tiny.version)"
    python = root / ".venv/bin/python"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def test_no_network_then_success_then_nothing_to_do_then_a_changed_pin(tmp_path):
    wheel(tmp_path, "1.0")
    wheel(tmp_path, "2.0")
    for name, text in {
        "backend.py": BACKEND,
        "pyproject.toml": PROJECT,
        "constraints.txt": "",
    }.items():
        (tmp_path / name).write_text(text)
    pins = tmp_path / "requirements.txt"
    pins.write_text("surely-not-here==1.0\n")
    done = set_up(tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: set-up stopped") and "network" in last and "GB free" in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".venv/.ready").exists()

    pins.write_text("tiny==1.0\n")
    done = set_up(tmp_path)
    assert done.returncode == 0, done.stderr
    assert version_in(tmp_path) == "1.0"

    done = set_up(tmp_path)  # nothing to do: not a word
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    pins.write_text("tiny==2.0\n")
    assert set_up(tmp_path).returncode == 0
    assert version_in(tmp_path) == "2.0"

    (tmp_path / ".venv/bin/python").unlink()  # a broken environment is made anew
    assert set_up(tmp_path).returncode == 0
    assert version_in(tmp_path) == "2.0"


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "version_info", (3, 9))
    with pytest.raises(SystemExit, match=r"3\.11 or newer is needed, this is 3\.9"):
        environment.main([])


def test_an_old_python_hands_over_to_a_newer_one(monkeypatch, tmp_path):
    newer = tmp_path / "python3.12"
    newer.write_text("#!/bin/sh\n")
    newer.chmod(0o755)
    called = []
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 8))
    monkeypatch.setattr(os, "execv", lambda path, words: called.append(words) or sys.exit(0))
    with pytest.raises(SystemExit):
        environment.main(["cluster"])
    assert called == [[str(newer), "-I", str(SCRIPT), "cluster"]]


def test_it_starts_on_an_old_python():
    """No syntax that Python 3.6 does not know: it must run in order to say that it is too old."""
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
