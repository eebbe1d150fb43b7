"""The parameters cell is the schema.

    steps: int = 25                      # steps of the path [1, 10000]
    noise: float = 0.15                  # share of the pixel range [0, 1)
    score: Literal["logit", "probability"] = "probability"   # what is attributed
    methods: list[str] = ["gradient", "smoothgrad"]          # compared, from METHODS
    images: str | None = None            # path: folder of labeled photos

Annotation = type (int, float, str, bool, None, Literal[...], list[...] and unions of them), value =
default, trailing comment = help. A range in square (inclusive) or round (exclusive) brackets, `inf`
allowed, bounds the number or every number of a list. A list holds something unless the help says
that it `may be empty`. `from METHODS` admits the attribution methods' names alone. `path:` in front
says that text other than the default names a file or folder that must exist; relative paths count
from the project's root and reach the notebook absolute. Nothing is executed to read the cell.

The type decides what a given text means: `2012` and `yes` are text where text is asked for. `null`,
`~` and nothing at all are None, and refused where that is not allowed; a file may quote them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from lib.builder.workspace import UsageError, nearest
from lib.builder.yamlfile import Plain, read_yaml

_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|inf))"
_RANGE = re.compile(rf"([\[(])\s*{_NUMBER}\s*,\s*{_NUMBER}\s*([\])])")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # no path holds the first, no UTF-8 the others
_METHODS = Path(__file__).parents[1] / "attribution" / "__init__.py"
# type: (in words, the texts that mean such a value, that value)
_WORDS = {
    int: ("an integer", r"[-+]?(0|[1-9][0-9]*)", int),
    float: ("a number", r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", float),
    bool: ("true or false", "true|false", "true".__eq__),
    type(None): ("null", "null|~|", lambda text: None),
    str: ("text", r"(?s)(?!(null|~|)\Z).*", str),
}


@dataclass(frozen=True)
class Parameter:
    name: str
    type: Any  # as in typing: int, Literal["a"], list[float], str | None
    default: Any
    help: str

    @property
    def range(self) -> re.Match | None:
        return _RANGE.search(self.help)

    def names_path(self, value: Any) -> bool:
        """Is the value the name of a file or folder (and not a default such as "embedded")?"""
        path = isinstance(value, str) and self.help.startswith("path:")
        return path and value != self.default

    def absolute(self, value: Any, root: Path) -> Any:
        """The value with absolute paths."""
        if isinstance(value, list):
            return [self.absolute(item, root) for item in value]
        return str(locate(value, root)) if self.names_path(value) else value

    def check(self, value: Any, where: str, root: Path) -> Any:
        """Return what the value, or the text given for it, means as this parameter's type.

        Raises:
            UsageError: wrong type, out of range, or a path that does not exist.
        """
        try:
            result = _read(self.type, value)
            if result == [] != self.default and "may be empty" not in self.help:
                raise ValueError("expected one item or more, got an empty list")
            items = result if isinstance(result, list) else [result]
            for item in items:
                self._check_item(item, root)
                if isinstance(item, str) and items.count(item) > 1:
                    raise ValueError(f"{shorten(item)} is given twice")
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{where}: {self.name}: {error}") from None
        return result

    def _check_item(self, item: Any, root: Path) -> None:
        if type(item) in (int, float):
            if not abs(item) < 2**63:
                raise ValueError(f"{shorten(item)} is too large")
            if self.range and not _inside(self.range, item):
                raise ValueError(f"{item!r} is not in {self.range.group()}")
        elif isinstance(item, str) and _NO_TEXT.search(item):
            raise ValueError(f"{shorten(item)} holds characters that no text has")
        elif self.names_path(item) and not _readable(item, root):
            raise ValueError(f"no file or folder {shorten(item)} that can be read")


def shorten(value: Any) -> str:
    """How a value of any length is shown within one line."""
    text = repr(value)
    return text[:200] + "..." * (len(text) > 200)


def locate(path: str, root: Path) -> Path:
    """The absolute path of a path-valued parameter: relative ones count from the project's root."""
    return root / os.path.expanduser(path)


def _readable(path: str, root: Path) -> bool:
    """A file or folder; no device or pipe, whose reading may never end, and not the whole disk."""
    found = locate(path, root)
    kind = os.path.isfile(found) or os.path.isdir(found)
    return path != "" and kind and os.access(found, os.R_OK) and os.path.realpath(found) != "/"


def _inside(bounds: re.Match, value: float) -> bool:
    low, high = float(bounds[2]), float(bounds[3])
    above = low <= value if bounds[1] == "[" else low < value
    return above and (value <= high if bounds[4] == "]" else value < high)


def _read(kind: Any, value: Any) -> Any:
    """What a `Plain` text means as this type, or any other value of it; ValueError if nothing."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, Literal):
        for option in sorted(inner, key=lambda option: option is str):  # any word could be text
            with contextlib.suppress(ValueError):
                result = _read(option if origin is Union else type(option), value)
                if origin is Union or result == option:
                    return result
    elif origin is list:
        # one list and nothing behind it, not even a comment
        lists = read_yaml(f"[{value}]") if isinstance(value, Plain) else [value]
        if len(lists) == 1 and isinstance(lists[0], list):
            return [_read(*inner, item) for item in lists[0]]
    elif isinstance(value, Plain):
        _, texts, make = _WORDS[kind]
        if re.fullmatch(texts, value):
            return make(value)
    elif type(value) is kind:
        return value
    elif kind is float and type(value) is int:
        return float(value)
    raise ValueError(f"expected {describe(kind)}, got {shorten(value)}")


def describe(kind: Any) -> str:
    """A type in words: `list[int] | None` is 'a list (each an integer) or null'."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Union:
        return " or ".join(map(describe, inner))
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    return f"a list (each {describe(*inner)})" if origin is list else _WORDS[kind][0]


def _type(node: ast.expr, text: Any) -> Any:
    """The type that an annotation names, `text` for `str`; ValueError if none may have it."""
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Name(id="int" | "float" | "bool" | "str" as name):
            return {"int": int, "float": float, "bool": bool, "str": text}[name]
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return Union[_type(left, text), _type(right, text)]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[_type(inner, text)]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            return Literal[ast.literal_eval(inner)]
    raise ValueError


def method_names() -> Any:
    """Literal[the keys of METHODS], read without importing PyTorch."""
    for node in ast.parse(_METHODS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METHODS":
            return Literal[tuple(ast.literal_eval(key) for key in node.value.keys)]
    raise LookupError("METHODS")


def read_schema(source: str, where: str, root: Path) -> dict[str, Parameter]:
    """Parse a parameters cell into {name: Parameter}.

    Raises:
        UsageError: a line is not `name: type = literal`, or a default breaks its own type.
    """
    try:
        tree = ast.parse(source, "parameters cell")
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from None
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    schema: dict[str, Parameter] = {}
    for node in tree.body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                continue
        lines = range(node.lineno, node.end_lineno + 1)
        text = " ".join(comments[n] for n in lines if n in comments)
        try:
            name = node.target.id
            kind = _type(node.annotation, method_names() if "from METHODS" in text else str)
            default = ast.literal_eval(node.value)
        except (AttributeError, TypeError, ValueError):
            shown = f"{shorten(ast.unparse(node))} is not `name: type = value`"
            raise UsageError(f"{where}: {shown} of a known type and a plain value") from None
        if name in schema:
            raise UsageError(f"{where}: {name}: declared twice")
        default = Parameter(name, kind, default, text).check(default, where, root)
        schema[name] = Parameter(name, kind, default, text)
    return schema


def notebook_schema(notebook: Any, where: str, root: Path) -> dict[str, Parameter]:
    """Return the schema of a notebook's one cell tagged `parameters`.

    Raises:
        UsageError: there is no such cell, or there are several.
    """
    cells = [c for c in notebook["cells"] if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise UsageError(f"{where}: {len(cells)} cells are tagged 'parameters'; one must be")
    return read_schema("".join(cells[0]["source"]), where, root)


def check_values(
    schema: dict[str, Parameter], values: dict[str, Any], where: str, root: Path
) -> dict[str, Any]:
    """Return the values, or what their texts mean, each checked against its parameter.

    Raises:
        UsageError: an unknown name (with the nearest known one), or a bad value.
    """
    for name in values:
        if name not in schema:
            shown = name if re.fullmatch(r"\w{1,80}", str(name)) else shorten(name)
            hint = nearest(str(name)[:80], schema)
            raise UsageError(f"{where}: {shown}: no such parameter; {hint}")
    return {name: schema[name].check(value, where, root) for name, value in values.items()}
