"""The hash of the code that rows depend on: every number counts, no word about them does."""

import shutil
from pathlib import Path

import pytest

from lib.evaluation import PROTOCOLS
from lib.rows.code import ROOT, code_hash, reached

FILES = {
    "lib/__init__.py": "",
    "lib/attribution/__init__.py": (
        "from lib.attribution.one import first\nMETHODS = {'first': first}\n"
    ),
    "lib/attribution/one.py": "def first():\n    return 1\n",
    "lib/copies/__init__.py": (
        "from lib.copies.engine import run\nfrom lib.copies.other import unused\n"
    ),
    "lib/copies/engine.py": "def run():\n    return 1\n",
    "lib/copies/other.py": "def unused():\n    return 1\n",
    "lib/core/__init__.py": "",
    "lib/core/draws.py": "SCALE = 1.0\n",
    "lib/core/unrelated.py": "X = 1\n",
    "lib/evaluation/__init__.py": "",
    "lib/evaluation/protocol.py": (
        '"""A protocol."""\n\nfrom lib.copies import run\n\n\ndef rows(x):\n    """Rows."""\n'
        "    from lib.core import draws\n    from lib.attribution import METHODS\n\n"
        "    return run() * draws.SCALE  # a comment\n"
    ),
}
ROOTS = ["lib.evaluation.protocol"]


@pytest.fixture
def project(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def edit(project: Path, name: str, old: str, new: str) -> None:
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("evaluation/protocol.py", '"""A protocol."""', '"""Another text."""'),
        ("evaluation/protocol.py", '    """Rows."""\n', ""),
        ("evaluation/protocol.py", "  # a comment", ""),
        ("evaluation/protocol.py", "run() * draws.SCALE", "(run()\n        * draws.SCALE)"),
        ("core/draws.py", "SCALE = 1.0\n", '# scale\nSCALE = 1.0\n"""Its text."""\n'),
        ("core/unrelated.py", "1", "2"),
        ("copies/other.py", "1", "2"),
        ("attribution/one.py", "1", "2"),
        ("attribution/__init__.py", "'first': first", "'first': first, 'second': first"),
    ],
)  # fmt: skip
def test_what_does_not_run_keeps_the_hash(project, name, old, new):
    before = code_hash(ROOTS, project)
    edit(project, f"lib/{name}", old, new)
    assert code_hash(ROOTS, project) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("evaluation/protocol.py", "run() *", "run() +"),
        ("core/draws.py", "1.0", "1.1"),
        ("copies/engine.py", "1", "2"),
    ],
)
def test_a_changed_number_changes_the_hash(project, name, old, new):
    before = code_hash(ROOTS, project)
    edit(project, f"lib/{name}", old, new)
    assert code_hash(ROOTS, project) != before


def test_the_method_that_parameters_name_counts(project):
    before = code_hash([*ROOTS, "lib.attribution.one"], project)
    edit(project, "lib/attribution/one.py", "1", "2")
    assert code_hash([*ROOTS, "lib.attribution.one"], project) != before


def test_what_the_real_protocols_reach(tmp_path):
    roots = [name.partition(":")[0] for name in PROTOCOLS.values()]
    found = set(reached(roots))
    assert {"lib.copies.engine", "lib.copies.imputation", "lib.core.draws"} <= found
    assert not [
        name for name in found if name.startswith(("lib.rows", "lib.builder", "lib.report"))
    ]
    shutil.copytree(ROOT / "lib", tmp_path / "lib")
    assert code_hash(roots, tmp_path) == code_hash(roots)
    edit(tmp_path, "lib/copies/imputation.py", "1 / 12", "1 / 13")
    assert code_hash(roots, tmp_path) != code_hash(roots)


def test_a_module_without_a_source_is_named():
    with pytest.raises(ValueError, match=r"module 'lib.nowhere' has no source file"):
        code_hash(["lib.nowhere"])
