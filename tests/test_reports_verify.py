"""verify: re-runs, compares number by number, touches nothing."""

import copy
import json

import pytest
from reports_project import (
    QUICK,
    built_project,
    copy_of_built,
    gone,
    kernel_of,
    leftovers,
    make_project,
    reports,
    start,
    state,
    write_notebook,
)

from lib.builder.verify import compare, within


@pytest.fixture
def old():
    return json.loads((built_project() / "reports/default/01-sample.json").read_text())


def changed(old, new):
    return [(what, remark) for status, what, remark in compare(old, new) if status == "CHANGED"]


def test_the_same_results_pass(old):
    lines = list(compare(old, copy.deepcopy(old)))
    assert {status for status, _, _ in lines} == {"PASS", "WALL-CLOCK"}
    assert [what for status, what, _ in lines if status == "WALL-CLOCK"] == ["SA-3", "wave.seconds"]


def test_the_tolerance_is_atol_plus_rtol_of_the_old_value():
    assert within(2.0, 2.05, 0.02, 0.0101)
    assert not within(2.0, 2.05, 0.02, 0.0099)
    assert within(0.0, 0.001, 0.5, 0.001)
    assert not within(0.0, 0.0011, 0.5, 0.001)


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        (("claims", 0, "verdict"), "contradicted", "SA-1.verdict"),
        (("claims", 0, "estimate"), 0.5, "SA-1.estimate"),
        (("claims", 1, "interval"), [-0.6, -1e-5], "SA-2.interval.low"),
        (("claims", 0, "n"), 21, "SA-1.n"),
        (("claims", 2, "n"), 21, "SA-3.n"),
        (("metrics", "wave.mean"), 0.2, "wave.mean"),
        (("metrics", "new"), 1.0, "new"),
        (("wall_clock", "new"), 1.0, "new"),
        (("parameters", "steps"), 6, "parameter steps"),
    ],
)
def test_each_change_is_one_line(old, path, value, what):
    new = copy.deepcopy(old)
    place = new
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert [name for name, _ in changed(old, new)] == [what]


def test_missing_numbers_are_changes(old):
    new = copy.deepcopy(old)
    del new["metrics"]["wave.mean"], new["wall_clock"]["wave.seconds"], new["claims"][0]
    assert changed(old, new) == [
        ("SA-1", "is gone"),
        ("wave.mean", "is gone"),
        ("wave.seconds", "is gone"),
    ]


def test_wall_clock_values_are_not_compared(old):
    new = copy.deepcopy(old)
    new["claims"][2] |= {"estimate": 1.0, "verdict": "supported", "interval": [0, 2]}
    new["wall_clock"]["wave.seconds"] = 99.0
    assert changed(old, new) == []
    undecided = copy.deepcopy(old)
    undecided["claims"][2] |= {"estimate": None, "verdict": "inconclusive"}
    remarks = [remark for status, what, remark in compare(old, undecided) if what == "SA-3"]
    assert len(remarks) == 1 and remarks[0].endswith("-> inconclusive, none")


def test_the_command_passes_on_one_report_and_touches_nothing(tmp_path):
    root = copy_of_built(tmp_path)
    before = state(root)
    done = reports(root, "verify", "sample")
    assert done.returncode == 0, done.stderr
    assert "PASS        01-sample  SA-1.estimate  " in done.stdout
    assert "02-quick" not in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" pass, 0 changed, 2 wall-clock")
    assert state(root) == before
    assert leftovers(root) == []


def test_all_reports_side_by_side_and_one_total(tmp_path):
    root = copy_of_built(tmp_path)
    before = state(root)
    done = reports(root, "verify")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for slug in ("01-sample", "02-quick"):
        assert any(line.startswith(f"PASS        {slug}  ") for line in lines)
    passed = sum(line.startswith("PASS ") for line in lines)
    assert [line for line in lines if " changed, " in line] == [lines[-1]]
    assert lines[-1] == f"{passed} pass, 0 changed, 2 wall-clock"
    assert state(root) == before
    assert leftovers(root) == []


def test_a_report_has_the_threads_that_it_was_made_with(tmp_path):
    root = make_project(tmp_path / "project")
    count = "import os\nsteps = int(os.environ['OMP_NUM_THREADS'])"
    write_notebook(root, "02-quick", [*QUICK[:2], ("code", count), *QUICK[3:]])
    built = reports(root, "build", "02-quick", "--threads", "3")
    assert built.returncode == 0, built.stderr
    results = json.loads((root / "reports/default/02-quick.json").read_text())
    assert results["metrics"]["steps"] == results["provenance"]["threads"] == 3
    done = reports(root, "verify", "02-quick")
    assert "PASS        02-quick  steps  3 -> 3" in done.stdout
    assert done.returncode == 0


def test_an_interrupt_ends_every_process(tmp_path):
    root = copy_of_built(tmp_path)
    (root / "params/default/02-quick.yaml").write_text("pause: 500\n")
    before = state(root)
    started = start(root, "verify", "quick")
    kernel = kernel_of(root, started)
    started.terminate()  # the parent alone: its processes must not outlive it
    _, errors = started.communicate(timeout=20)
    assert started.returncode == 130
    assert "interrupted: nothing was changed" in errors
    assert gone(kernel)
    assert state(root) == before
    assert leftovers(root) == []


def test_the_command_finds_a_change(tmp_path):
    root = copy_of_built(tmp_path)
    path = root / "reports/default/02-quick.json"
    path.write_text(path.read_text().replace('"steps": 5\n', '"steps": 4\n', 1))
    results = json.loads(path.read_text())
    results["metrics"]["steps"] = 4
    path.write_text(json.dumps(results))
    done = reports(root, "verify", "quick")
    assert done.returncode == 1
    assert "CHANGED     02-quick  steps  4 -> 5 (allowed: 0.081)" in done.stdout


def test_what_an_earlier_run_kept_is_not_believed(tmp_path):
    root, kept = make_project(tmp_path / "project"), tmp_path / "kept"
    remember = """import os
from pathlib import Path
kept = Path(os.environ["ATTRIBUTION_CACHE"], "steps")
steps = int(kept.read_text()) if kept.exists() else steps"""
    write_notebook(root, "02-quick", [*QUICK[:2], ("code", remember), *QUICK[3:]])
    kept.mkdir()
    (kept / "steps").write_text("99")
    built = reports(root, "build", "02-quick", ATTRIBUTION_CACHE=str(kept))
    assert built.returncode == 0, built.stderr
    done = reports(root, "verify", "02-quick", ATTRIBUTION_CACHE=str(kept))
    assert done.returncode == 1
    assert "CHANGED     02-quick  steps  99 -> 5" in done.stdout


def test_a_report_that_fails_now_is_a_change(tmp_path):
    root = copy_of_built(tmp_path)
    (root / "params/default/02-quick.yaml").write_text("fault: error\n")
    done = reports(root, "verify", "02-quick")
    assert done.returncode == 1
    assert (
        "CHANGED     02-quick  02-quick  the report fails now (cell 3): ValueError" in done.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--profile", "smok"], "no folder params/smok"),
        (["nothing"], "no notebook 'nothing'"),
        (["quick"], "reports/default/02-quick.json: missing or not a results file"),
    ],
)
def test_bad_input_exits_2(tmp_path, arguments, says):
    root = copy_of_built(tmp_path)
    (root / "reports/default/02-quick.json").write_text("{}")
    done = reports(root, "verify", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
