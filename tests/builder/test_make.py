"""The Makefile, on a copy of lib with notebooks of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.projects import (
    PARAMETERS,
    QUICK,
    WITH_ROWS,
    copy_of_built,
    environment,
    make_project,
    reports,
    write_notebook,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def make(root, *arguments, python=sys.executable):
    inherited = {
        k: v
        for k, v in environment().items()
        if k not in ("PYTHON", "PROFILE", "SET", "PARAMS", "REPORT", "ANEW")
    }
    inherited["PYTHONPATH"] = str(root)
    words = ["make", *arguments] + ([f"PYTHON={python}"] if python else [])
    return subprocess.run(
        words, cwd=root, env=inherited, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one good and one broken notebook, and the builder itself."""
    root = make_project(tmp_path_factory.mktemp("make") / "project")
    ours = shutil.ignore_patterns("__pycache__", "ledger.yaml")
    shutil.copytree(ROOT / "lib", root / "lib", ignore=ours, dirs_exist_ok=True)
    shutil.copy(ROOT / "Makefile", root / "Makefile")
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (root / name).touch()
    (root / "notebooks/01-sample.ipynb").unlink()
    write_notebook(
        root, "00-broken", [QUICK[0], ("code", PARAMETERS, "parameters"), ("code", "1/0")]
    )
    return root


@pytest.fixture(scope="module")
def first(project):
    """What `make -k -j2` says the first time."""
    return make(project, "-k", "-j2")


def test_everything_that_can_be_rendered_is_and_the_failure_counts(project, first):
    assert first.returncode != 0
    assert "02-brief  done: reports/default/02-brief.html" in first.stdout
    assert "00-broken  FAILED (cell 3): ZeroDivisionError" in first.stderr
    assert first.stdout.splitlines()[-1] == "Open reports/default/index.html"
    index = (project / "reports/default/index.html").read_text()
    assert "The last build failed" in index
    assert "QU-1 supported" in index


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["JOBS=3"], "-j3"), (["-j2", "JOBS=3"], "-j2"), (["-j1", "JOBS=3"], "-j1")],
)
def test_reports_are_made_several_at_a_time_unless_j_says_otherwise(project, arguments, expected):
    """What the builder reads to share the cores out, caught by a stand-in for Python."""
    spy = project / "spy"
    spy.write_text('#!/bin/sh\necho "flags: $MAKEFLAGS"\n')
    spy.chmod(0o755)
    flags = make(project, *arguments, python=str(spy)).stdout.splitlines()
    assert len(flags) == 3
    assert all(f" {expected}" in line for line in flags[:2])


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (3, 3), (64, 4)])
def test_one_report_per_core_and_four_at_most(project, monkeypatch, cores, expected):
    tools = project / f"tools-{cores}"
    tools.mkdir()
    for name, answer in (("nproc", cores), ("spy", '"flags: $MAKEFLAGS"')):
        (tools / name).write_text(f"#!/bin/sh\necho {answer}\n")
        (tools / name).chmod(0o755)
    before = set(project.iterdir())
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    flags = make(project, python=str(tools / "spy")).stdout.splitlines()
    assert all(f" -j{expected} " in f"{line} " for line in flags[:2])
    assert set(project.iterdir()) == before


@pytest.mark.parametrize("target", ["02-brief", "brief", "reports/default/02-brief.html"])
def test_each_name_of_a_report_finds_it_current(project, first, target):
    done = make(project, target)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "02-brief  is current: reports/default/02-brief.html\n"


def test_set_with_quotes_and_dollars_reaches_the_report_as_written(project, first):
    done = make(project, "brief", "SET=steps=9 kind='cosine' names='[it, \"$$5\"]'")
    assert done.returncode == 0, done.stderr
    results = (project / "reports/custom/02-brief.json").read_text()
    assert '"steps": 9' in results
    assert '"$5"' in results


def test_anew_makes_again_what_is_current(project, first):
    assert "02-brief  done" in make(project, "brief", "ANEW=1").stdout
    assert "02-brief  done" in make(project, "-k", "ANEW=1").stdout
    assert "02-brief  is current" in make(project, "brief", "ANEW=0").stdout


@pytest.mark.parametrize("target", ["explain", "00-explain"])
def test_a_photo_and_its_class_reach_the_builder_as_written(project, tmp_path, target):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/00-explain.ipynb").touch()
    shutil.copy(project / "Makefile", tmp_path)
    spy = tmp_path / "spy"
    spy.write_text(f"#!{sys.executable}\nimport sys\nprint(*sys.argv[1:], sep='\\n')\n")
    spy.chmod(0o755)
    done = make(tmp_path, target, "PHOTO=my cat's #1.jpg", "CLASS=tiger cat", python=str(spy))
    words = done.stdout.splitlines()
    assert words[:6] == ["-m", "lib.builder", "build", "00-explain", "--profile", "default"]
    assert words[6:] == ["--value", "photo=my cat's #1.jpg", "--value", "label=tiger cat"]


@pytest.mark.parametrize(("profile", "words"), [("default", ""), ("smoke", " PROFILE=smoke")])
def test_all_current_is_said_with_the_way_to_make_it_anew(tmp_path, profile, words):
    root = copy_of_built(tmp_path)
    for folder in ("params", "reports"):
        (root / folder / "default").rename(root / folder / profile)
    assert reports(root, "build", "sample", "brief", "--profile", profile).returncode == 0
    said = reports(root, "index", "--profile", profile).stdout.splitlines()
    assert said[0] == f"2 reports are current; make reports{words} ANEW=1 runs them again"
    (root / "params" / profile / "02-brief.yaml").write_text("steps: 8\n")
    said = reports(root, "index", "--profile", profile).stdout.splitlines()
    assert said == [f"Open reports/{profile}/index.html"]


def files(root):
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"}


@pytest.mark.parametrize("target", ["reports", "brief", "index", "verify"])
def test_a_dry_run_writes_nothing(project, first, target):
    (project / "reports/default/index.html").unlink(missing_ok=True)
    before = files(project)
    done = make(project, "-n", target, "ANEW=1")
    assert (done.returncode, "-m lib.builder" in done.stdout) == (0, True)
    assert files(project) == before


@pytest.mark.parametrize("name", ["PROFILE", "REPORT", "PARAMS"])
@pytest.mark.parametrize("target", ["brief", "reports", "index", "verify"])
def test_no_value_reaches_the_shell(project, first, name, target):
    value = """x'; touch pwned; echo "$$(touch pwned)`touch pwned`"; '"""
    assert "Traceback" not in make(project, target, f"{name}={value}", "ANEW=0").stderr
    assert not (project / "pwned").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["brief", "SET=stepz=9"], "error: SET: stepz: no such parameter; did you mean 'steps'?"),
        (["brief", "PARAMS=none.yaml"], "error: none.yaml: no such file"),
        (["brief", "PROFILE=defualt"], "error: PROFILE=defualt: there is no folder"),
        (["verify", "PROFILE=defualt"], "error: PROFILE=defualt: there is no folder"),
        (["quik"], "No rule to make target"),
    ],
)
def test_wrong_input_is_one_line(project, first, arguments, says):
    done = make(project, *arguments)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_a_line_for_every_public_target(project):
    text = make(project, "help").stdout
    targets = "help env reports index test quick bench verify course lab clean"
    for target in targets.split():
        assert f"\n  {target} " in text
    for word in ("PROFILE=", "PARAMS=", "SET=", "NN-slug", "reports/<profile>/NN-slug.html"):
        assert word in text


def test_a_report_that_is_named_like_a_target_goes_by_its_number(project, tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/07-test.ipynb").touch()
    shutil.copy(project / "Makefile", tmp_path)
    assert "lib.builder build 07-test" in make(tmp_path, "07-test", python="echo").stdout
    done = make(tmp_path, "test", python="echo")
    assert "pytest" in done.stdout and "lib.builder" not in done.stdout
    assert done.stderr == ""


def test_set_up_runs_by_itself_and_its_failure_is_one_line(project):
    """Without PYTHON= the environment comes first: a stamp that fits needs no pip."""
    os.makedirs(project / ".venv/bin", exist_ok=True)
    link = project / ".venv/bin/python"
    link.unlink(missing_ok=True)
    link.symlink_to(sys.executable)
    code = "from lib.builder.environment import pins; print(pins(), end='')"
    stamp = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    (project / ".venv/.ready").write_text(stamp)
    assert make(project, "env", python=None).returncode == 0
    shutil.rmtree(project / ".venv")


def test_an_estimate_has_a_line_for_each_report_with_rows(project, tmp_path):
    root = Path(shutil.copytree(project, tmp_path / "project"))
    write_notebook(root, "02-brief", WITH_ROWS)
    (root / "params/smoke").mkdir()
    (root / "params/smoke/02-brief.yaml").write_text("steps: 5\n")
    done = make(root, "estimate", "PROFILE=smoke", "WORKERS=4")
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert "hours, 4 workers" in head
    assert [line.split()[:3] for line in lines] == [["02-brief", "removal", "12"]]
