"""The builder's promises: built aside, put in place whole, never mistaken for one that worked."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import gone
from support.projects import (
    LEDGER,
    PARAMETERS,
    QUICK,
    built_project,
    command,
    copy_of_built,
    environment,
    kernel_of,
    leftovers,
    make_project,
    reports,
    start,
    state,
    write_notebook,
)

from lib.builder.build import make
from lib.builder.console import cores, threads_of_a_kernel
from lib.builder.execute import kernel_environment
from lib.builder.overrides import resolve_run
from lib.builder.pair import html_build, read_results
from lib.builder.provenance import content_hash, git_state
from lib.builder.workspace import Project

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def set_parameters(root, text):
    (root / "params/default/02-brief.yaml").write_text(text)


def test_both_files_carry_the_same_hash_and_everything_recorded():
    root = built_project()
    results = read_results(root / "reports/default/01-sample.json")
    run = resolve_run(Project(root), "01-sample", "default")
    assert results["provenance"]["content_hash"] == content_hash(run)
    assert html_build(root / "reports/default/01-sample.html") == content_hash(run)
    assert results["title"] == "A sample report"
    assert results["question"].startswith("Does a wave stay below")
    assert results["parameters"]["steps"] == 5
    assert results["changed"] == ["steps"]
    assert [claim["id"] for claim in results["claims"]] == ["SA-1", "SA-2", "SA-3"]
    assert results["wall_clock"] == {"wave.seconds": 1.25}
    assert results["provenance"]["command"] == "make 01-sample"
    assert results["provenance"]["device"] == "cpu"
    assert set(results["build"]) == {"time", "seconds"}
    for path in (root / "reports/default").iterdir():
        assert path.stat().st_mode & 0o777 == 0o644
    assert leftovers(root) == []


def test_the_executed_notebook_is_kept_without_volatile_metadata():
    notebook = json.loads((built_project() / ".cache/executed/default/01-sample.ipynb").read_text())
    assert all(c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code")
    assert notebook["metadata"]["language_info"]["pygments_lexer"] == "ipython3"
    assert "papermill" not in json.dumps(
        [notebook["metadata"]] + [c["metadata"] for c in notebook["cells"]]
    )


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("error", "ValueError: <b>this cell fails</b> on purpose"),
        ("exit", "the cell ended the notebook (sys.exit)"),
        ("os-exit", "the kernel died"),
        ("kill", "the kernel died"),
        ("hang", "the cell ran longer than 2 s"),
    ],
)
def test_a_failure_leaves_the_last_good_report_and_says_so(tmp_path, fault, says):
    root = copy_of_built(tmp_path)
    good = state(root)
    set_parameters(root, f"fault: {fault}\n")
    done = reports(root, "build", "brief", "--timeout", "2")
    assert done.returncode == 1
    assert "02-brief  FAILED (cell 3): " + says in done.stderr
    assert "Traceback" not in done.stderr
    after = state(root)
    page = after.pop("02-brief.FAILED.html").decode()
    for name in ("02-brief.html", "02-brief.json", "01-sample.html"):
        assert after[name] == good[name]
    assert "<b>this cell" not in page
    assert "02-brief could not be built" in page
    assert "make 02-brief" in page
    assert "sys" in page  # the failing cell is shown
    if fault == "error":
        assert "Traceback (most recent call last)" in page or "ValueError" in page
        assert "\x1b" not in page
    assert "The last build failed" in after["index.html"].decode()
    assert leftovers(root) == []

    set_parameters(root, "steps: 5\n")  # what was good before is current again: no kernel needed
    done = reports(root, "build", "brief")
    assert done.returncode == 0
    assert "is current" in done.stdout
    assert not (root / "reports/default/02-brief.FAILED.html").exists()


QUESTION, VERDICTS = "Is one equal to one?", "report.verdicts()"
PLOT = f"{VERDICTS}\nfrom matplotlib import pyplot as plt\nplt.plot([1]);"
UNFIT = {
    "verdicts not shown": (VERDICTS, "pass", "not in the verdict table"),
    "no alt text": (VERDICTS, PLOT, "figure 1 has no alt text"),
    "picture from outside": (QUESTION, "One? ![a](https://example.org/a.png)", "from outside"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_page_that_is_not_fit_is_not_put_in_place(tmp_path, case):
    old, new, says = UNFIT[case]
    root = make_project(tmp_path / "project")
    cells = [(kind, source.replace(old, new), *tags) for kind, source, *tags in QUICK]
    assert cells != QUICK
    write_notebook(root, "02-brief", cells)
    done = reports(root, "build", "brief")
    assert done.returncode == 1, done.stdout
    assert says in done.stderr
    assert sorted(state(root)) == ["02-brief.FAILED.html", "index.html"]


def test_a_claim_of_the_ledger_must_be_recorded(tmp_path):
    root = make_project(tmp_path / "project")
    row = "  QU-2: {report: 02-brief, unit: twos, sentences: [], core: [x], meaning: Two is two.}\n"
    (root / "lib/core/ledger.yaml").write_text(LEDGER + row)
    cells = [list(cell) for cell in QUICK]
    cells[-1][1] = cells[-1][1].replace("report.verdicts()", "")
    write_notebook(root, "02-brief", cells)
    done = reports(root, "build", "brief")
    assert done.returncode == 1
    assert "claims of the ledger were not recorded: QU-2" in done.stderr


def test_what_is_current_is_not_built_again(tmp_path):
    root = copy_of_built(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (root / "reports/default").iterdir()}
    for path in root.rglob("*"):  # a fresh clone: every time stamp is new, in any order
        os.utime(path, (1e9, 1e9))
    done = reports(root, "build", "sample", "brief")
    assert (done.returncode, done.stdout.count("is current")) == (0, 2)
    assert all(path.stat().st_mtime == 1e9 for path in before if path.name != "index.html")


def ingredient_notebook(root):
    path = root / "notebooks/02-brief.ipynb"
    path.write_text(path.read_text().replace("Is one equal", "Is 1 equal"))


def ingredient_tag(root):
    path = root / "notebooks/02-brief.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][2]["metadata"]["tags"] = ["remove-input"]
    path.write_text(json.dumps(notebook))


def ingredient_parameters(root):
    set_parameters(root, "steps: 6\n")


def ingredient_library(root):
    (root / "lib/new.py").write_text("x = 1\n")


def ingredient_ledger(root):
    path = root / "lib/core/ledger.yaml"
    path.write_text(path.read_text().replace("One is one.", "One equals one."))


def ingredient_pins(root):
    (root / "requirements.txt").write_text("numpy==9\n")


@pytest.mark.parametrize(
    "change",
    [
        ingredient_notebook,
        ingredient_tag,
        ingredient_parameters,
        ingredient_library,
        ingredient_ledger,
        ingredient_pins,
    ],
)
def test_each_ingredient_makes_it_stale(tmp_path, change):
    root = copy_of_built(tmp_path)
    before = content_hash(resolve_run(Project(root), "02-brief", "default"))
    change(root)
    assert content_hash(resolve_run(Project(root), "02-brief", "default")) != before


def test_what_does_not_matter_does_not_make_it_stale(tmp_path):
    root = copy_of_built(tmp_path)
    before = content_hash(resolve_run(Project(root), "02-brief", "default"))
    path = root / "notebooks/02-brief.ipynb"
    notebook = json.loads(path.read_text())
    notebook["metadata"]["kernelspec"]["display_name"] = "another"
    notebook["cells"][2] |= {"execution_count": 7, "outputs": [], "id": "other"}
    notebook["cells"][2]["source"] = notebook["cells"][2]["source"].splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=4))
    (root / "lib/__pycache__").mkdir()
    (root / "lib/__pycache__/x.pyc").write_bytes(b"x")
    set_parameters(root, "# a remark\nsteps: 5\n")
    assert content_hash(resolve_run(Project(root), "02-brief", "default")) == before


def test_a_changed_picture_in_the_users_folder_makes_it_stale(tmp_path):
    root = copy_of_built(tmp_path)
    (tmp_path / "pictures").mkdir()
    run = resolve_run(Project(root), "02-brief", "default", None, f"images={tmp_path}/pictures")
    before = content_hash(run)
    (tmp_path / "pictures/new.jpg").write_bytes(b"x")
    assert content_hash(run) != before


def test_a_photo_behind_a_link_is_seen_and_loops_end(tmp_path):
    root = copy_of_built(tmp_path)
    for folder in ("pictures", "elsewhere"):
        (tmp_path / folder).mkdir()
    photo = tmp_path / "elsewhere/new.jpg"
    photo.write_bytes(b"x")
    (tmp_path / "pictures/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures/loop").symlink_to(tmp_path / "pictures")
    (tmp_path / "pictures/dead.jpg").symlink_to("nowhere")
    run = resolve_run(Project(root), "02-brief", "default", None, f"images={tmp_path}/pictures")
    before, times = content_hash(run), photo.stat()
    photo.write_bytes(b"y")
    os.utime(photo, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times does
    assert content_hash(run) != before


def test_code_behind_a_link_is_seen_and_loops_end(tmp_path):
    root = copy_of_built(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/code.py").write_text("x = 1")
    (root / "lib/linked").symlink_to(tmp_path / "elsewhere")
    (root / "lib/loop").symlink_to(root / "lib")
    run = resolve_run(Project(root), "02-brief", "default")
    before = content_hash(run)
    (tmp_path / "elsewhere/code.py").write_text("x = 2")
    assert content_hash(run) != before


@pytest.mark.parametrize("name", ["plan.png", "helper.py", "table.csv"])
def test_what_a_notebook_names_beside_it_makes_it_stale(tmp_path, name):
    root = copy_of_built(tmp_path)
    path = root / "notebooks/02-brief.ipynb"
    path.write_text(path.read_text().replace("Is one", "See plan.png, helper, table.csv. Is one"))
    run = resolve_run(Project(root), "02-brief", "default")
    before = content_hash(run)
    (root / "notebooks" / name).write_bytes(b"x")
    assert content_hash(run) != before


@pytest.mark.parametrize("damaged", ["02-brief.html", "02-brief.json"])
def test_a_pair_that_does_not_match_is_built_again(tmp_path, damaged):
    root = copy_of_built(tmp_path)
    path = root / "reports/default" / damaged
    path.write_text(path.read_text()[: 200 if damaged.endswith("json") else 100])
    done = reports(root, "build", "brief")
    assert (done.returncode, "done:" in done.stdout) == (0, True)
    run = resolve_run(Project(root), "02-brief", "default")
    assert html_build(root / "reports/default/02-brief.html") == content_hash(run)


def test_the_notebook_that_was_read_is_the_one_that_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = copy_of_built(tmp_path)
    path = root / "notebooks/02-brief.ipynb"
    path.write_text(path.read_text().replace(", steps, varies", ", 1, varies"))
    run = resolve_run(Project(root), "02-brief", "default")
    path.write_text(path.read_text().replace(", 1, varies", ", 2, varies"))
    assert make(run) == "built"
    results = read_results(root / "reports/default/02-brief.json")
    assert results["metrics"] == {"steps": 1}
    assert results["provenance"]["content_hash"] == content_hash(run)
    assert "done:" in reports(root, "build", "brief").stdout  # and what is there now is not it


@pytest.mark.parametrize("changed", ["lib/new.py", "notebooks/plan.png"])
def test_what_changes_in_the_middle_makes_it_stale(tmp_path, changed):
    root = make_project(tmp_path / "project")
    cells = [list(cell) for cell in QUICK]
    cells[0][1] += " plan.png"
    cells[2][1] = f"open('../{changed}', 'w').write('x')"
    write_notebook(root, "02-brief", cells)
    done = reports(root, "build", "brief")
    assert (done.returncode, "it counts as stale" in done.stdout) == (0, True)
    carried = read_results(root / "reports/default/02-brief.json")["provenance"]["content_hash"]
    assert carried == html_build(root / "reports/default/02-brief.html") == "changed-while-made"


def test_an_experiment_goes_to_its_own_folder(tmp_path):
    root = copy_of_built(tmp_path)
    before = state(root / ".")
    done = reports(root, "build", "brief", "--set", "steps=9")
    assert done.returncode == 0
    assert "reports/default/ is untouched." in done.stdout
    assert "make compare A=reports/default B=reports/custom" in done.stdout.splitlines()[-1]
    results = read_results(root / "reports/custom/02-brief.json")
    assert results["metrics"] == {"steps": 9}
    assert results["provenance"]["command"] == "make 02-brief SET=steps=9"
    assert (root / "reports/custom/index.html").exists()
    for name, content in before.items():
        assert (root / "reports/default" / name).read_bytes() == content
    assert "is current" in reports(root, "build", "brief", "--set", "steps=9").stdout


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(tmp_path, sent):
    root = copy_of_built(tmp_path)
    set_parameters(root, "pause: 500\n")
    before = state(root)
    builder = start(root, "build", "brief")
    kernel = kernel_of(root, builder)
    builder.send_signal(sent)
    _, errors = builder.communicate(timeout=20)
    assert builder.returncode == 130
    assert errors.strip() == "interrupted: nothing was changed"
    assert gone(kernel)
    assert state(root) == before
    assert leftovers(root) == []


def test_an_interrupt_names_what_was_already_made(tmp_path):
    root = make_project(tmp_path / "project")
    set_parameters(root, "pause: 500\n")
    builder = start(root, "build", "sample", "brief")
    kernel_of(root, builder)
    builder.send_signal(signal.SIGINT)
    _, errors = builder.communicate(timeout=20)
    assert builder.returncode == 130
    assert errors.strip() == "interrupted: already made: reports/default/01-sample.html"


def test_kill_9_leaves_no_half_report_and_the_next_build_cleans_up(tmp_path):
    root = copy_of_built(tmp_path)
    set_parameters(root, "pause: 500\n")
    before = state(root)
    builder = start(root, "build", "brief")
    kernel = kernel_of(root, builder)
    runtime = next((root / ".cache/build").glob("*/runtime")).read_text()
    builder.kill()
    builder.communicate()
    assert state(root) == before
    assert leftovers(root) != []
    assert gone(kernel)  # the kernel notices that its parent is gone
    set_parameters(root, "steps: 8\n")
    done = reports(root, "build", "brief")
    assert done.returncode == 0
    assert read_results(root / "reports/default/02-brief.json")["metrics"] == {"steps": 8}
    assert leftovers(root) == []
    assert not os.path.exists(runtime)


def test_two_builds_at_once_make_it_once(tmp_path):
    root = copy_of_built(tmp_path)
    set_parameters(root, "steps: 8\npause: 1\n")
    both = [start(root, "build", "brief") for _ in range(2)]
    texts = [builder.communicate(timeout=60) for builder in both]
    assert [builder.returncode for builder in both] == [0, 0], texts
    lines = sorted(text.splitlines()[-1].split(": ")[0] for text, _ in texts)
    assert lines == ["02-brief  done", "02-brief  is current"]
    assert leftovers(root) == []


def test_a_failing_report_does_not_stop_the_others(tmp_path):
    root = make_project(tmp_path / "project")
    write_notebook(
        root, "00-broken", [QUICK[0], ("code", PARAMETERS, "parameters"), ("code", "1/0")]
    )
    done = reports(root, "build", "broken", "brief")
    assert done.returncode == 1
    assert "00-broken  FAILED (cell 3): ZeroDivisionError" in done.stderr
    assert sorted(state(root)) == [
        "00-broken.FAILED.html",
        "02-brief.html",
        "02-brief.json",
        "index.html",
    ]


def test_the_kernels_environment(monkeypatch, tmp_path):
    run = resolve_run(Project(built_project()), "02-brief", "default")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    environment = kernel_environment(run, tmp_path, 3)
    assert "MPLBACKEND" not in environment
    assert environment["OMP_NUM_THREADS"] == "3"


def test_the_readers_own_settings_stay_outside(tmp_path):
    """IPython and Python start-up files, search paths, kernels, figure styles."""
    root, home = make_project(tmp_path / "project"), tmp_path / "home"
    touch = "import builtins\nbuiltins.touched = True\n"
    for place in ("a/sitecustomize.py", "b.py", ".ipython/profile_default/startup/00.py"):
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_text(touch)
    style = home / ".config/matplotlib/matplotlibrc"
    style.parent.mkdir(parents=True)
    style.write_text("lines.linewidth: 99\n")
    kernel = home / ".local/share/jupyter/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"}
    kernel.write_text(json.dumps(spec))
    cells = [list(cell) for cell in QUICK]
    cells[2][1] = "import builtins, matplotlib\nwidth = matplotlib.rcParams['lines.linewidth']"
    values = 'report.metric("touched", hasattr(builtins, "touched") + (width == 99))'
    cells[3][1] = cells[3][1].replace('report.metric("steps", steps, varies="exact")', values)
    write_notebook(root, "02-brief", cells)
    outside = {
        "HOME": str(home),
        "PYTHONSTARTUP": str(home / "b.py"),
        "PYTHONPATH": f"{environment()['PYTHONPATH']}:{home / 'a'}",
        "JUPYTER_PREFER_ENV_PATH": "0",
    }
    done = reports(root, "build", "brief", **outside)
    assert done.returncode == 0, done.stderr
    assert read_results(root / "reports/default/02-brief.json")["metrics"] == {"touched": 0}


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("print('x' * 1_600_000)", 0, "02-brief  warning: the page has 1.6 MB"),
        ("print('x' * 21_000_000)", 1, "FAILED (cell 3): the notebook puts out more than 20 MB"),
        ("import os\nos.write(2, b'deep')\nos.abort()", 1, "FAILED (cell 3): the kernel died"),
        ("1/0  # raises-exception", 1, "FAILED (cell 3): ZeroDivisionError"),
        ("1/1  # a,b", 1, "FAILED: not a valid notebook: 'a,b' does not match"),
    ],
)
def test_a_notebook_that_says_too_much_or_ends_too_early(tmp_path, code, status, says):
    root = make_project(tmp_path / "project")
    cells = [list(cell) for cell in QUICK]
    cells[2][1:] = code.split("  # ")  # what follows is a tag
    write_notebook(root, "02-brief", cells)
    set_parameters(root, "")  # no cell is added: the number is the same
    done = reports(root, "build", "brief")
    assert done.returncode == status
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if "deep" in code:  # what it said below Python is on the page
        assert "deep" in (root / "reports/default/02-brief.FAILED.html").read_text()


def test_a_daemon_that_a_notebook_leaves_does_not_hold_our_output(tmp_path):
    root = make_project(tmp_path / "project")
    cells = [list(cell) for cell in QUICK]
    note = tmp_path / "pid"
    cells[2][1] = f"""import pathlib, subprocess
daemon = subprocess.Popen(['sleep', '300'], start_new_session=True)
pathlib.Path({str(note)!r}).write_text(str(daemon.pid))"""
    write_notebook(root, "02-brief", cells)
    try:
        assert reports(root, "build", "brief").returncode == 0  # it waits for the end of output
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_the_commit_is_this_projects_own(tmp_path, monkeypatch):
    for name in ("ours", "other"):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", name]
        subprocess.run(["git", "init", "-q", tmp_path / name], check=True)
        subprocess.run([*command, "-q", "--allow-empty"], cwd=tmp_path / name, check=True)
    before = git_state(tmp_path / "ours")["commit"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert git_state(tmp_path / "ours")["commit"] == before is not None


def test_a_path_that_python_cannot_import_from_is_refused(tmp_path):
    for room in ("core", "builder"):
        shutil.copytree(ROOT / "lib" / room, tmp_path / "a:b/lib" / room)
    words = [sys.executable, "-m", "lib.builder", "index"]
    environ = environment() | {"PYTHONPATH": ""}
    done = subprocess.run(words, cwd=tmp_path / "a:b", env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr == f"error: {tmp_path}/a:b: Python cannot import from a path with ':' in it\n"
    )


@pytest.mark.parametrize("asked", ["²", "1,2", "0", "-1", "two", "99999"])
def test_a_number_of_threads_that_is_none_is_one_line(tmp_path, asked):
    done = reports(copy_of_built(tmp_path), "build", "brief", OMP_NUM_THREADS=asked)
    assert done.returncode == 2
    assert done.stderr == f"error: OMP_NUM_THREADS={asked}: expected one number, 1 or more\n"


def test_reports_that_are_built_at_once_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MAKEFLAGS", "")
    assert threads_of_a_kernel() == cores()
    monkeypatch.setenv("MAKEFLAGS", " -j64 --jobserver-auth=3,4")
    assert threads_of_a_kernel() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_of_a_kernel() == 5


def on_a_terminal(root, *arguments, **environ):
    """Run the builder with a terminal as its output; return everything that it wrote."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command(root, *arguments),
        cwd=root,
        env=environment() | environ,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # the terminal closes when the builder ends
        while part := os.read(ours, 4096):
            written += part
    os.close(ours)
    process.wait()
    return written.decode()


def test_progress_is_one_line_with_name_cell_label_and_seconds(tmp_path):
    root = make_project(tmp_path / "project")
    cells = [list(cell) for cell in QUICK]
    label = 'open(os.environ["REPORT_PROGRESS"], "w").write("curves\\t43\\t100")\ntime.sleep(0.8)'
    cells[2][1] += "\n" + label
    write_notebook(root, "02-brief", cells)
    text = on_a_terminal(root, "build", "brief", TERM="xterm", COLUMNS="80")
    lines = text.split("\r\x1b[K")
    assert any(re.fullmatch(r"02-brief  cell 3/4  curves 43 %  \d+ s", line) for line in lines), (
        lines[-5:]
    )
    assert text.replace("\r\x1b[K", "").count("\n") <= 3
    assert lines[-1].splitlines()[-1] == "02-brief  done: reports/default/02-brief.html"
    shared = on_a_terminal(root, "build", "--force", "brief", TERM="xterm", MAKEFLAGS=" -j2")
    assert "\x1b[K" not in shared  # other reports print too: whole lines only
