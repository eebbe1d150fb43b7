"""verify: re-runs, compares every number, touches nothing, passes on nothing that it skipped."""

import json
import re

import pytest
from support.processes import gone
from support.projects import (
    QUICK,
    WITH_ROWS,
    copy_of_built,
    forge,
    kernel_of,
    leftovers,
    make_project,
    reports,
    start,
    state,
    write_notebook,
)

pytestmark = pytest.mark.slow

TOTAL = re.compile(r"(\d) of (\d) reports compared: (\d+) pass, (\d+) changed, (\d+) wall-clock")


def total(done):
    return tuple(map(int, TOTAL.match(done.stdout.splitlines()[-1]).groups()))


def test_every_report_is_compared_and_has_a_line_of_its_own(tmp_path):
    root = copy_of_built(tmp_path)
    before = state(root)
    done = reports(root, "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(re.fullmatch(r"01-sample  \d+ pass, 3 wall-clock", line) for line in lines)
    assert any(re.fullmatch(r"02-brief  \d+ pass", line) for line in lines)
    compared, of, passed, changed, timed = total(done)
    assert (compared, of, changed, timed) == (2, 2, 0, 3)
    assert passed == sum(int(n) for n in re.findall(r"(?m)^0\d-\w+  (\d+) pass", done.stdout))
    assert "PASS" not in done.stdout
    assert state(root) == before
    assert leftovers(root) == []


def test_one_report_with_every_number(tmp_path):
    root = copy_of_built(tmp_path)
    done = reports(root, "verify", "sample", "--all")
    assert done.returncode == 0, done.stderr
    assert "PASS        01-sample  SA-1: the mean of a sine < 0.5.estimate  " in done.stdout
    assert "02-brief" not in done.stdout
    assert done.stdout.count("PASS ") == total(done)[2]


def test_a_report_has_the_threads_that_it_was_made_with(tmp_path):
    root = make_project(tmp_path / "project")
    count = "import os\nsteps = int(os.environ['OMP_NUM_THREADS'])"
    write_notebook(root, "02-brief", [*QUICK[:2], ("code", count), *QUICK[3:]])
    built = reports(root, "build", "02-brief", OMP_NUM_THREADS="3")
    assert built.returncode == 0, built.stderr
    results = json.loads((root / "reports/default/02-brief.json").read_text())
    assert results["metrics"]["steps"] == results["provenance"]["threads"] == 3
    done = reports(root, "verify", "02-brief", "--all")
    assert "PASS        02-brief  steps  3 -> 3" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("kill", [False, True])
def test_its_end_is_the_end_of_every_process(tmp_path, kill):
    root = copy_of_built(tmp_path)
    (root / "params/default/02-brief.yaml").write_text("pause: 500\n")
    before = state(root)
    started = start(root, "verify", "brief")
    kernel = kernel_of(root, started)
    started.kill() if kill else started.terminate()  # the parent alone
    _, errors = started.communicate(timeout=20)
    assert gone(kernel)
    assert state(root) == before
    if not kill:
        assert started.returncode == 130
        assert "interrupted: nothing was changed" in errors
    else:  # what is left of the dead one goes with the next call
        (root / "params/default/02-brief.yaml").write_text("steps: 5\n")
        assert reports(root, "verify", "brief").returncode == 0
    assert leftovers(root) == []


def change_a_number(results):
    results["metrics"]["steps"] = 4


def change_the_tolerance(results):
    results["metrics"]["steps"] = 4
    results["tolerances"]["steps"] = {"varies": "count", "within": 100.0}


def change_the_statement(results):
    results["claims"][0]["statement"] = "Two is one."


def change_the_hash(results):
    results["provenance"]["content_hash"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_a_number, "CHANGED     02-brief  steps  4 -> 5"),
        (change_the_tolerance, "CHANGED     02-brief  steps  4 -> 5"),
        (change_the_tolerance, "CHANGED     02-brief  steps: varies  'count' -> 'exact'"),
        (change_the_statement, "CHANGED     02-brief  QU-1.statement  'Two is one.' -> 'One is"),
        (change_the_statement, "CHANGED     02-brief  QU-1  the page shows something else"),
        (change_the_hash, "CHANGED     02-brief  02-brief.json  02-brief.html and 02-brief.json"),
    ],
)
def test_a_change_is_found_even_where_the_pair_was_sealed_again(tmp_path, change, says):
    root = copy_of_built(tmp_path)
    forge(root, "02-brief", change)
    done = reports(root, "verify", "brief")
    assert done.returncode == 1
    assert says in done.stdout
    assert "1 of 1 reports compared" in done.stdout


def test_a_page_or_an_index_that_shows_another_verdict_is_found(tmp_path):
    root = copy_of_built(tmp_path)
    forge(root, "02-brief", lambda results: None, lambda html: html.replace("supported", "proven"))
    index = root / "reports/default/index.html"
    index.write_text(index.read_text().replace("SA-2 contradicted", "SA-2 supported"))
    done = reports(root, "verify")
    assert done.returncode == 1
    assert "CHANGED     02-brief  QU-1  the page shows something else" in done.stdout
    assert "CHANGED     01-sample  SA-2  the index shows something else" in done.stdout
    assert total(done)[3] == 2


def test_an_edited_page_is_found(tmp_path):
    root = copy_of_built(tmp_path)
    page = root / "reports/default/02-brief.html"
    page.write_text(page.read_text().replace("Is one equal to one?", "One is equal to one."))
    done = reports(root, "verify", "brief")
    assert done.returncode == 1
    assert "02-brief.json  02-brief.html was edited or damaged" in done.stdout


@pytest.mark.parametrize("missing", ["02-brief.html", "02-brief.json", "notebook"])
def test_what_is_missing_fails_by_name_and_the_others_are_compared(tmp_path, missing):
    root = copy_of_built(tmp_path)
    folder = root / "notebooks" if missing == "notebook" else root / "reports/default"
    name = "02-brief.ipynb" if missing == "notebook" else missing
    (folder / name).unlink()
    done = reports(root, "verify")
    assert done.returncode == 1
    found = [line for line in done.stdout.splitlines() if "missing" in line]
    assert len(found) == 1 and re.match(r"(FAILED|CHANGED) +02-brief  .*missing", found[0])
    assert re.search(r"(?m)^01-sample  \d+ pass", done.stdout)
    assert re.search(r"(?m)^02-brief  \d+ pass, 1 (failed|changed)$", done.stdout)


def test_a_report_that_was_never_made_fails_too(tmp_path):
    root = copy_of_built(tmp_path)
    write_notebook(root, "03-not-written", QUICK)
    done = reports(root, "verify")
    assert done.returncode == 1
    assert "FAILED      03-not-written  03-not-written.json is missing" in done.stdout
    assert total(done)[:2] == (2, 3)


@pytest.mark.parametrize("field", ["claims", "metrics", "tolerances", "parameters", "wall_clock"])
def test_results_without_a_field_were_not_compared(tmp_path, field):
    root = copy_of_built(tmp_path)
    forge(root, "02-brief", lambda results: results.pop(field))
    done = reports(root, "verify")
    assert done.returncode == 1
    assert "FAILED      02-brief  02-brief.json is not as results are written today" in done.stdout
    assert total(done)[:2] == (1, 2)
    assert done.stderr == ""


@pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 100_000, '{"provenance": {}}', "\x00\xff"])
def test_a_damaged_results_file_was_not_compared(tmp_path, text):
    root = copy_of_built(tmp_path)
    (root / "reports/default/02-brief.json").write_text(text, encoding="latin-1")
    done = reports(root, "verify", "brief")
    assert done.returncode == 1
    assert re.search(r"(?m)^FAILED      02-brief  .*02-brief.json", done.stdout)
    assert "0 of 1 reports compared: 0 pass" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("fault", ["os-exit", "kill", "error"])
def test_a_report_that_fails_now_has_failed(tmp_path, fault):
    root = copy_of_built(tmp_path)
    (root / "params/default/02-brief.yaml").write_text(f"fault: {fault}\n")
    done = reports(root, "verify")
    assert done.returncode == 1
    assert "FAILED      02-brief  the report fails now (cell 3): " in done.stdout
    assert total(done)[:2] == (1, 2)


def test_a_part_that_crashes_has_failed(tmp_path):
    """The process itself, not the notebook: the folder of its results is gone when it writes."""
    root = copy_of_built(tmp_path)
    spoil = """import shutil
from pathlib import Path
shutil.rmtree(Path(os.environ["ATTRIBUTION_CACHE"]).parent)"""
    write_notebook(root, "02-brief", [*QUICK[:3], ("code", spoil), *QUICK[3:]])
    done = reports(root, "verify", "brief")
    assert done.returncode == 1
    assert "FAILED      02-brief  making it again ended with exit code 1" in done.stdout
    assert "0 of 1 reports compared: 0 pass" in done.stdout


def test_what_an_earlier_run_kept_is_not_believed(tmp_path):
    root, kept = make_project(tmp_path / "project"), tmp_path / "kept"
    remember = """import os
from pathlib import Path
kept = Path(os.environ["ATTRIBUTION_CACHE"], "steps")
steps = int(kept.read_text()) if kept.exists() else steps"""
    write_notebook(root, "02-brief", [*QUICK[:2], ("code", remember), *QUICK[3:]])
    kept.mkdir()
    (kept / "steps").write_text("99")
    built = reports(root, "build", "02-brief", ATTRIBUTION_CACHE=str(kept))
    assert built.returncode == 0, built.stderr
    done = reports(root, "verify", "02-brief", ATTRIBUTION_CACHE=str(kept))
    assert done.returncode == 1
    assert "CHANGED     02-brief  steps  99 -> 5" in done.stdout


def test_a_report_made_by_other_code_is_named(tmp_path):
    root = copy_of_built(tmp_path)
    (root / "lib/new.py").write_text("x = 1\n")
    done = reports(root, "verify", "brief")
    assert done.returncode == 0
    assert "STALE       02-brief  02-brief.json  was made by other code" in done.stdout


def test_a_profile_of_hours_keeps_its_rows_and_a_tenth_is_computed_again(tmp_path):
    root, kept = make_project(tmp_path / "project"), tmp_path / "kept"
    write_notebook(root, "02-brief", WITH_ROWS)
    (root / "params/thousand").mkdir()
    for name in ("01-sample", "02-brief"):
        (root / f"params/thousand/{name}.yaml").write_text("steps: 5\n")
    profile, cache = ["--profile", "thousand"], {"ATTRIBUTION_CACHE": str(kept)}
    built = reports(root, "build", "02-brief", *profile, "--no-index", **cache)
    assert built.returncode == 0, built.stderr
    (root / "reports/thousand/02-brief.html").unlink()  # of its photos nothing is published
    done = reports(root, "verify", "02-brief", *profile, **cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ROWS        02-brief  removal 1  2 of 12 chunks computed again, alike" in done.stdout
    assert re.search(r"(?m)^02-brief  \d+ pass, 1 rows$", done.stdout)
    for path in (kept / "rows").glob("*.parquet"):
        path.unlink()
    done = reports(root, "verify", *profile, **cache)
    assert done.returncode == 1
    assert re.search(r"FAILED      02-brief  the report fails now .* are not kept", done.stdout)
    assert "FAILED      01-sample  01-sample.json is missing" in done.stdout
    assert "0 of 2 reports compared" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--profile", "smok"], "no folder params/smok"),
        (["--profile", "custom"], "verify compares the reports of a profile"),
        (["nothing"], "no notebook 'nothing'"),
        (["brief"], "there is no report to verify"),
    ],
)
def test_bad_input_exits_2(tmp_path, arguments, says):
    root = copy_of_built(tmp_path)
    (root / "reports/default/02-brief.json").unlink()
    done = reports(root, "verify", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
