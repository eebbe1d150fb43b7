"""What code a result depends on: everything inside lib that a module's imports reach.

Only what runs counts. Docstrings, comments and formatting are not in the syntax tree that is
hashed; of the methods of :mod:`lib.attribution` only those count that something imports or the
caller names, so that a new method leaves the rows of all others as they are.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "lib.attribution"  # its METHODS names every method: the package is not followed whole


def code_hash(roots: Iterable[str], folder: Path = ROOT) -> str:
    """16 hex digits for the code of the modules ``roots`` and all that they reach in ``lib``.

    ``folder`` is the one that holds ``lib``. Raises ``ValueError`` for a root without a source.
    """
    digest = hashlib.sha256()
    for name in sorted(reached(roots, folder)):
        digest.update(f"{name}\n{ast.dump(_tree(_source(name, folder)))}\n".encode())
    return digest.hexdigest()[:16]


def reached(roots: Iterable[str], folder: Path = ROOT) -> set[str]:
    """The names of the modules: the roots, what they import from ``lib``, and so on."""
    todo, seen = list(roots), set()
    while todo:
        name = todo.pop()
        if name not in seen and name != REGISTRY:
            seen.add(name)
            todo += _imports(name, folder)
    return seen


def _imports(name: str, folder: Path) -> Iterator[str]:
    for node in ast.walk(_tree(_source(name, folder))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _in_lib(alias.name))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{name}: imports of lib must be absolute to be followed")
            module = node.module or ""
            if _in_lib(module):
                yield from (_origin(module, alias.name, folder) for alias in node.names)


def _origin(module: str, name: str, folder: Path) -> str:
    """The module that ``from module import name`` depends on: a package only hands names on."""
    if _path(f"{module}.{name}", folder):
        return f"{module}.{name}"
    source = _source(module, folder)
    if source.name == "__init__.py":
        for node in _tree(source).body:
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                handed = node.module or ""
                return _origin(handed, name, folder) if _in_lib(handed) else module
    return module


def _in_lib(module: str) -> bool:
    return module == "lib" or module.startswith("lib.")


def _path(module: str, folder: Path) -> Path | None:
    stem = folder.joinpath(*module.split("."))
    files = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _source(module: str, folder: Path) -> Path:
    path = _path(module, folder)
    if path is None and not _in_lib(module):  # a protocol of one's own
        spec = find_spec(module)
        path = Path(spec.origin) if spec and spec.origin else None
    if path is None:
        raise ValueError(f"module {module!r} has no source file: its code cannot be hashed")
    return path


def _tree(source: Path) -> ast.Module:
    return _parsed(source, source.stat().st_mtime_ns)


@cache
def _parsed(source: Path, changed: int) -> ast.Module:
    tree = ast.parse(source.read_bytes())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [part for part in body if not _is_text(part)]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
