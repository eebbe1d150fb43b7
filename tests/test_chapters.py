"""A notebook is a chapter: little code, most of a page prose, nothing hidden that matters.

The limits are those of CONTRIBUTING.md. The parameters' cell and prose with numbers (``%%say``)
are not counted as code.
"""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
LINES, COLUMNS, WHOLE, WORDS = 15, 100, 200, 6

pytestmark = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def cells(path: Path) -> tuple[list[list[str]], list[str]]:
    """(lines of each code cell, text of each prose cell)."""
    code, prose = [], []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" or source.startswith("%%say"):
            prose.append(source)
        elif "parameters" not in cell["metadata"].get("tags", []):
            code.append([line for line in source.splitlines() if line.strip()])
    return code, prose


def test_code_is_short_and_prose_is_not(path):
    code, prose = cells(path)
    lines = sum(map(len, code))
    words = sum(len(text.split()) for text in prose)
    assert max(map(len, code)) <= LINES, max(code, key=len)
    assert not [line for cell in code for line in cell if len(line) > COLUMNS]
    assert lines <= WHOLE
    assert words >= WORDS * lines
