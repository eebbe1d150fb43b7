"""`pip install .`: the wheel alone, in an environment without the checkout, renders a report."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def run(*command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_wheel_renders_a_smoke_report(tmp_path):
    source = tmp_path / "source"  # building leaves folders behind
    ignored = shutil.ignore_patterns(".*", "reports", "__pycache__", "tests", "build")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = ["--no-deps", "--no-build-isolation", "-q"]
    run(sys.executable, "-m", "pip", "wheel", *build, "-w", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty")
    python = tmp_path / "empty/bin/python"
    (site,) = (tmp_path / "empty/lib").glob("python*/site-packages")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    # what the wheel depends on is not downloaded again: these packages, without this checkout
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    (tmp_path / "empty/share").symlink_to(Path(sys.prefix) / "share")  # nbconvert's templates

    project = tmp_path / "project"
    for folder in ("notebooks", "params"):
        shutil.copytree(ROOT / folder, project / folder)
    where = run(python, "-c", "import lib.core.ledger as l; print(l.__file__)", cwd=project)
    assert Path(where.strip()).is_relative_to(site)
    build = ["--root", project, "build", "13-deletion-regions", "--profile", "smoke"]
    run(python, "-m", "lib.builder", *build, cwd=project)
    results = json.loads((project / "reports/smoke/13-deletion-regions.json").read_text())
    assert results["claims"] and results["provenance"]["versions"]
    assert (project / "reports/smoke/13-deletion-regions.html").stat().st_size > 50_000
