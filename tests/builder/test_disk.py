"""Disks that are full, elsewhere, read-only or gone; output that nobody reads: one line each."""

import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.projects import (
    QUICK,
    command,
    copy_of_built,
    environment,
    leftovers,
    make_project,
    reports,
    state,
    write_notebook,
)

from lib.builder.pair import read_results

pytestmark = pytest.mark.slow


def run(arguments, root, **options):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(arguments, cwd=root, env=environment(), text=True, timeout=120, **streams)


def parameters(root, text):
    (root / "params/default/02-brief.yaml").write_text(text)


def one_line(text, *says):
    lines = [line for line in text.splitlines() if "  see reports/" not in line]
    assert len(lines) == 1, text
    assert all(word in lines[0] for word in says), text


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another disk."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    folder = Path(tempfile.mkdtemp(prefix="reports-", dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("moved", ["reports", ".cache"])
def test_reports_or_cache_on_another_disk(tmp_path, elsewhere, moved):
    root = make_project(tmp_path / "project")
    (root / moved).symlink_to(elsewhere, target_is_directory=True)
    done = reports(root, "build", "brief")
    assert done.returncode == 0, done.stderr
    assert read_results(root / "reports/default/02-brief.json")["metrics"] == {"steps": 5}
    assert leftovers(root) == []


def test_what_a_killed_build_left_beside_the_report_is_removed(tmp_path):
    root = copy_of_built(tmp_path)
    parameters(root, "steps: 6\n")
    for name in (".02-brief.json.part", ".02-brief.FAILED.html.part"):
        (root / "reports/default" / name).write_text("half of i")
    assert reports(root, "build", "brief").returncode == 0
    assert leftovers(root) == []


@pytest.mark.parametrize(("allowed", "says_so"), [(100, False), (30_000, True)])
def test_a_full_disk_is_one_line_and_the_last_good_report_stays(tmp_path, allowed, says_so):
    """The largest file allowed stands in for a full disk: nothing fits, or all but the page."""
    root = copy_of_built(tmp_path)
    (root / "params/default/01-sample.yaml").write_text("steps: 6\n")
    before = state(root)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, allowed))

    done = run(command(root, "build", "sample", "--no-index"), root, preexec_fn=limit)
    assert done.returncode == 1
    one_line(done.stderr, "01-sample  FAILED", "File too large")
    after = state(root)
    assert ("01-sample.FAILED.html" in after) == says_so
    after.pop("01-sample.FAILED.html", None)
    assert after == before
    assert leftovers(root) == []


def read_only(root, *arguments):
    """Run the builder where nothing below root can be written, even by the system's owner."""
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("the owner of the system may write everywhere")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
    folders = [root, *(path for path in root.rglob("*") if not path.is_symlink())]
    modes = {path: path.stat().st_mode for path in folders}
    for path in reversed(folders):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        return run([*prefix, *command(root, *arguments)], root)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_read_only_project_in_which_all_is_current_says_so(tmp_path):
    root = copy_of_built(tmp_path)
    shutil.rmtree(root / ".cache")
    for arguments in (["build", "sample", "brief"], ["index"]):
        done = read_only(root, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "current" in done.stdout
    assert not (root / ".cache").exists()


@pytest.mark.parametrize("arguments", [["build", "brief"], ["index"]])
def test_a_read_only_project_in_which_something_is_to_do_is_one_line(tmp_path, arguments):
    root = copy_of_built(tmp_path)
    parameters(root, "steps: 6\n")
    before = state(root)
    done = read_only(root, *arguments)
    assert done.returncode == 1
    one_line(done.stderr, "Permission denied")
    assert state(root) == before


def test_a_cache_that_is_a_file_is_one_line(tmp_path):
    root = make_project(tmp_path / "project")
    (root / ".cache").write_text("")
    done = reports(root, "build", "brief")
    assert done.returncode == 1
    one_line(done.stderr, "error: .cache/locks/default: ")


def test_a_cache_deleted_in_the_middle_fails_the_report(tmp_path):
    root = make_project(tmp_path / "project")
    cells = [list(cell) for cell in QUICK]
    cells[2][1] = "import shutil\nshutil.rmtree('../.cache')"
    write_notebook(root, "02-brief", cells)
    done = reports(root, "build", "brief")
    assert done.returncode == 1
    one_line(done.stderr, "02-brief  FAILED (cell 4): FileNotFoundError")
    assert sorted(state(root)) == ["02-brief.FAILED.html", "index.html"]


def test_output_that_cannot_be_written_is_one_line_and_loses_nothing(tmp_path):
    root = copy_of_built(tmp_path)
    parameters(root, "fault: stderr\n")  # a warning is said too
    with open("/dev/full", "w") as full:
        done = run(command(root, "build", "brief"), root, stdout=full)
    assert done.returncode == 1
    one_line(done.stderr, "error: standard output: No space left on device")
    assert "is current" in reports(root, "build", "brief").stdout


def test_output_that_is_closed_or_not_read_is_silence(tmp_path):
    root = copy_of_built(tmp_path)
    build = command(root, "build", "brief")
    closed = run(["sh", "-c", 'exec "$@" <&- >&-', "sh", *build], root)
    assert (closed.returncode, closed.stderr) == (0, "")
    closed = run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *build], root)
    assert closed.returncode == 0
    reader, writer = os.pipe()
    os.close(reader)
    unread = run(build, root, stdout=writer)
    os.close(writer)
    assert (unread.returncode, unread.stderr) == (1, "")
