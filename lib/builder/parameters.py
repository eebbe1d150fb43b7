"""The parameters cell is the schema.

    steps: int = 25                      # steps of the path [1, 10000]
    noise: float = 0.15                  # share of the pixel range [0, 1)
    score: Literal["logit", "probability"] = "probability"   # what is attributed
    methods: list[str] = ["gradient", "smoothgrad"]          # names in METHODS
    images: str | None = None            # path: folder of labeled photos

Annotation = type, value = default, trailing comment = help. A range in square (inclusive) or round
(exclusive) brackets, `inf` allowed, bounds the number or every number of a list. A help that starts
with `path:`, or the type Path, says that text other than the default (or a Literal choice) names a
file or folder that must exist; relative paths count from the project's root and reach the notebook
absolute. Imports are allowed in the cell. Nothing is executed to read it.
"""

from __future__ import annotations

import ast
import difflib
import io
import math
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.builder.workspace import UsageError

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|inf)"
_RANGE = re.compile(
    rf"(?P<left>[\[(])\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*(?P<right>[\])])"
)
_NAMES = {
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "Path": "a path",
}


class ParameterError(UsageError):
    """A parameter that cannot be used: one line naming the file (or SET) and the parameter."""


@dataclass(frozen=True)
class Parameter:
    name: str
    type: ast.expr
    default: Any
    help: str

    @property
    def range(self) -> re.Match | None:
        return _RANGE.search(self.help)

    def names_path(self, value: Any) -> bool:
        """Is the value the name of a file or folder (and not a keyword such as "embedded")?"""
        choices = re.findall(r"Literal\[(.*?)\]", ast.unparse(self.type))
        keywords = [word for inside in choices for word in ast.literal_eval(f"({inside},)")]
        return (
            isinstance(value, str)
            and (self.help.startswith("path:") or "Path" in ast.unparse(self.type))
            and value not in keywords
            and value != self.default
        )

    def check(self, value: Any, where: str, root: Path) -> Any:
        """Return the value as its type (an integer given for a float becomes one).

        Raises:
            ParameterError: wrong type, out of range, or a path that does not exist.
        """
        ok, value = _conform(self.type, value)
        if not ok:
            raise ParameterError(
                f"{where}: {self.name}: expected {describe(self.type)}, got {value!r}"
            )
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, (int, float)) and not isinstance(item, bool):
                if not math.isfinite(item) or not _inside(self.range, item):
                    allowed = self.range.group() if self.range else "a finite number"
                    raise ParameterError(f"{where}: {self.name}: {item!r} is not in {allowed}")
            elif self.names_path(item) and not locate(item, root).exists():
                raise ParameterError(f"{where}: {self.name}: no file or folder {item!r}")
        return value


def locate(path: str, root: Path) -> Path:
    """The absolute path of a path-valued parameter: relative ones count from the project's root."""
    return root / Path(path).expanduser()


def _inside(bounds: re.Match | None, value: float) -> bool:
    if bounds is None:
        return True
    low, high = float(bounds["low"]), float(bounds["high"])
    return (low <= value if bounds["left"] == "[" else low < value) and (
        value <= high if bounds["right"] == "]" else value < high
    )


def _conform(kind: ast.expr, value: Any) -> tuple[bool, Any]:
    """(does the value have the type, the value as that type)."""
    match kind:
        case ast.Constant(value=None):
            return value is None, value
        case ast.Constant(value=str(quoted)):
            return _conform(ast.parse(quoted, mode="eval").body, value)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            options = [_conform(left, value), _conform(right, value)]
            return next((o for o in options if o[0] and type(o[1]) is type(value)), None) or max(
                options, key=lambda option: option[0]
            )
        case ast.Name(id="bool"):
            return isinstance(value, bool), value
        case ast.Name(id="int"):
            return isinstance(value, int) and not isinstance(value, bool), value
        case ast.Name(id="float"):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return number, float(value) if number else value
        case ast.Name(id="str" | "Path"):
            return isinstance(value, str), value
        case ast.Name(id="list"):
            return isinstance(value, list), value
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            if not isinstance(value, list):
                return False, value
            items = [_conform(inner, item) for item in value]
            return all(ok for ok, _ in items), [item for _, item in items] if items else value
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            choices = ast.literal_eval(inner)
            choices = choices if isinstance(choices, tuple) else (choices,)
            return any(type(c) is type(value) and c == value for c in choices), value
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return (True, value) if value is None else _conform(inner, value)
    raise ValueError(ast.unparse(kind))


def describe(kind: ast.expr) -> str:
    """A type in words: `list[int] | None` is 'a list (each an integer) or null'."""
    match kind:
        case ast.Constant(value=None):
            return "null"
        case ast.BinOp(left=left, right=right):
            return f"{describe(left)} or {describe(right)}"
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return f"a list (each {describe(inner)})"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            choices = ast.literal_eval(inner)
            return "one of " + ", ".join(
                map(str, choices if isinstance(choices, tuple) else [choices])
            )
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return f"{describe(inner)} or null"
        case ast.Name(id="list"):
            return "a list"
    return _NAMES.get(ast.unparse(kind), ast.unparse(kind))


def read_schema(source: str, where: str, root: Path) -> dict[str, Parameter]:
    """Parse a parameters cell into {name: Parameter}.

    Raises:
        ParameterError: a line is not `name: type = literal`, or a default breaks its own type.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ParameterError(
            f"{where}: line {error.lineno} of the parameters cell: {error.msg}"
        ) from None
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ").strip()
    schema: dict[str, Parameter] = {}
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            continue
        if not (
            isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
        ):
            line = ast.unparse(node).splitlines()[0]
            raise ParameterError(f"{where}: parameters cell: {line!r} is not `name: type = value`")
        name = node.target.id
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ParameterError(f"{where}: {name}: the default is not a plain value") from None
        text = " ".join(
            comments[n] for n in range(node.lineno, node.end_lineno + 1) if n in comments
        )
        parameter = Parameter(name, node.annotation, default, text)
        try:
            schema[name] = Parameter(
                name, node.annotation, parameter.check(default, where, root), text
            )
        except ValueError as error:
            raise ParameterError(f"{where}: {name}: the type {error} is not supported") from None
    return schema


def notebook_schema(notebook: Any, where: str, root: Path) -> dict[str, Parameter]:
    """Return the schema of a notebook's one cell tagged `parameters`.

    Raises:
        ParameterError: there is no such cell, or there are several.
    """
    cells = [c for c in notebook["cells"] if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{where}: {len(cells)} cells are tagged 'parameters'; one must be")
    return read_schema("".join(cells[0]["source"]), where, root)


def check_values(
    schema: dict[str, Parameter], values: Any, where: str, root: Path
) -> dict[str, Any]:
    """Return the values, each checked against its parameter.

    Raises:
        ParameterError: not a mapping, an unknown name (with the nearest known one), or a bad value.
    """
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ParameterError(f"{where}: expected `name: value` lines, got {type(values).__name__}")
    for name in values:
        if name not in schema:
            near = difflib.get_close_matches(name, schema, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(schema)}"
            raise ParameterError(f"{where}: {name}: no such parameter; {hint}")
    return {name: schema[name].check(value, where, root) for name, value in values.items()}
