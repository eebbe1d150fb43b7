"""What code a result depends on: everything inside lib that a module's imports reach.

Only what runs counts. Docstrings, comments and formatting are not in the syntax tree that is
hashed; of the methods of :mod:`lib.attribution` only those count that something imports or the
caller names, so that a new method leaves the rows of all others as they are.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lib.core import store

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "lib.attribution"  # its METHODS names every method: the package is not followed whole


def code_hash(roots: Iterable[str], folder: Path = ROOT) -> str:
    """16 hex digits for the code of the modules ``roots`` and all that they reach in ``lib``.

    ``folder`` is the one that holds ``lib``. Raises ``ValueError`` for a root without a source.
    """
    return store.digest({name: ast.dump(tree) for name, tree in reached(roots, folder).items()})[
        :16
    ]


def reached(roots: Iterable[str], folder: Path = ROOT) -> dict[str, ast.Module]:
    """The syntax trees by module: the roots, what they import from ``lib``, and so on."""
    todo, found = list(roots), {}
    while todo:
        name = todo.pop()
        if name not in found and name != REGISTRY:
            found[name] = _tree(name, folder)
            todo += _imports(found[name], folder)
    return found


def _imports(tree: ast.Module, folder: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _in_lib(alias.name))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError("imports of lib must be absolute to be followed")
            module = node.module or ""
            if _in_lib(module):
                yield from (_origin(module, alias.name, folder) for alias in node.names)


def _origin(module: str, name: str, folder: Path) -> str:
    """The module that ``from module import name`` depends on: a package only hands names on."""
    if _path(f"{module}.{name}", folder):
        return f"{module}.{name}"
    if (path := _path(module, folder)) and path.name == "__init__.py":
        for node in _tree(module, folder).body:
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                handed = node.module or ""
                return _origin(handed, name, folder) if _in_lib(handed) else module
    return module


def _in_lib(module: str) -> bool:
    return module.partition(".")[0] == "lib"


def _path(module: str, folder: Path) -> Path | None:
    if not _in_lib(module):  # a protocol of one's own
        spec = find_spec(module)
        return Path(spec.origin) if spec and spec.has_location and spec.origin else None
    stem = folder.joinpath(*module.split("."))
    return next(filter(Path.is_file, [stem.with_suffix(".py"), stem / "__init__.py"]), None)


def _tree(module: str, folder: Path) -> ast.Module:
    path = _path(module, folder)
    if path is None:
        raise ValueError(f"module {module!r} has no source file: its code cannot be hashed")
    return _parsed(path.read_bytes())


@cache
def _parsed(text: bytes) -> ast.Module:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [part for part in body if not _is_text(part)]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
