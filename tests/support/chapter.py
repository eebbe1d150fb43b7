"""A notebook's own cells on planted data: what a claim's rule says where the answer is known."""

import ast
import json
from pathlib import Path

from lib.report.lesson import Lesson
from lib.report.verdicts import Judgment

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def code_cells(slug: str) -> list[str]:
    """The Python cells of a notebook, in order; prose (``%%say``) is none."""
    notebook = json.loads((NOTEBOOKS / f"{slug}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    return [source for source in sources if not source.startswith("%%")]


def judge(slug: str, claim: str, **planted) -> Judgment:
    """The verdict of the cell that judges ``claim``, with ``planted`` in place of what it measures.

    The cell also sees what the notebook imports and defines, and its parameters' defaults.
    """
    cells = code_cells(slug)
    (cell,) = [source for source in cells if f'lesson.claim("{claim}"' in source]
    parameters = next(source for source in cells if "Literal" in source or "seed: int" in source)
    defined = [
        node
        for source in cells
        for node in ast.parse(source).body
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef))
    ]
    lesson = Lesson(slug)
    names = {"lesson": lesson}
    exec(compile(ast.Module(defined, []), slug, "exec"), names)
    exec(compile(parameters, slug, "exec"), names)
    names |= planted
    exec(compile(cell, slug, "exec"), names)
    return lesson.judged[claim]
