"""Every notebook, through its smoke profile: built once by papermill, run again by nbval.

nbval compares the text of every output, so a report that is not deterministic fails. Figures are
compared here, byte by byte. `SMOKE=07-pixel-removal` restricts the run to some reports.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.projects import ROOT, environment, own_cache, smoke_project, smoke_report

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHOSEN = [  # each on whichever worker is free
    pytest.param(path.stem, marks=pytest.mark.xdist_group(path.stem))
    for path in NOTEBOOKS
    if os.environ.get("SMOKE", path.stem) in (path.stem, path.stem[3:])
]
PROFILES = ("smoke", "imagenet")

NBVAL = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env"]
NBVAL += ["-p", "no:cacheprovider", "--nbval-cell-timeout", "600"]
NBVAL += ["--nbval-sanitize-with", "nbval.cfg"]


def source(path: Path) -> dict:
    return json.loads(path.read_text())


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    assert not [c for c in code_cells(source(path)) if c["outputs"] or c["execution_count"]]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_profile_has_parameters(path, profile):
    assert (ROOT / "params" / profile / f"{path.stem}.yaml").is_file()


@pytest.fixture(params=CHOSEN)
def executed(request) -> Path:
    """One report of the smoke profile, rendered."""
    return smoke_report(request.param) / ".cache/executed/smoke" / f"{request.param}.ipynb"


@pytest.mark.slow
def test_a_smoke_report_is_reproduced(executed):
    project = smoke_project()
    cells = code_cells(source(executed))
    assert all(cell["execution_count"] for cell in cells)
    copy = project / "notebooks" / f".nbval-{executed.name}"  # nbval runs in the file's own folder
    shutil.copy(executed, copy)
    again = subprocess.run(
        [*NBVAL, str(copy)],
        cwd=project,
        env=environment() | own_cache(project),
        text=True,
        capture_output=True,
    )
    assert again.returncode == 0, again.stdout[-6000:]
    assert f"{len(cells)} passed" in again.stdout


def pictures(notebook: dict) -> list[bytes]:
    return [
        base64.b64decode("".join(content) if isinstance(content, list) else content)
        for cell in code_cells(notebook)
        for output in cell["outputs"]
        for mime, content in output.get("data", {}).items()
        if mime in ("image/png", "image/jpeg")
    ]


@pytest.mark.slow
def test_figures_are_photographs_of_this_run(executed):
    found = pictures(source(executed))
    assert found and len(set(found)) == len(found)
