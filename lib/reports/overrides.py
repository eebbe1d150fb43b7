"""The values of one run. The later one wins: notebook, profile, PARAMS, SET."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.reports.parameters import (
    Parameter,
    ParameterError,
    check_values,
    locate,
    notebook_schema,
)
from lib.reports.project import CUSTOM, Project, ReportFailed
from lib.reports.yamlfile import read_yaml

_HEAD = re.compile(
    r"\A\s*#[ \t]+(?P<title>[^\n]+)\n+(?P<question>[^\n#](?:.|\n)*?)(?:\n[ \t]*\n|\Z)"
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Run:
    """One report to make: which notebook, with which values, and where it goes."""

    project: Project
    slug: str
    profile: str  # the profile whose file gives the starting values
    params: str | None  # PARAMS as given
    set: str | None  # SET as given
    notebook: dict[str, Any]
    schema: dict[str, Parameter]
    parameters: dict[str, Any]  # every parameter's value
    given: dict[str, Any]  # those that a file or SET names: what papermill injects

    @property
    def target(self) -> str:
        """Its folder in reports/: an experiment never overwrites a profile's report."""
        return CUSTOM if self.params or self.set else self.profile

    @functools.cached_property
    def head(self) -> tuple[str, str, str]:
        return title_and_question(self.notebook)

    @property
    def injected(self) -> dict[str, Any]:
        """What the kernel gets: the values given, paths absolute (its cwd is notebooks/)."""

        def absolute(parameter: Parameter, value: Any) -> Any:
            if isinstance(value, list):
                return [absolute(parameter, item) for item in value]
            return str(locate(value, self.project.root)) if parameter.names_path(value) else value

        return {name: absolute(self.schema[name], value) for name, value in self.given.items()}

    @property
    def changed(self) -> list[str]:
        return [n for n, p in self.schema.items() if self.parameters[n] != p.default]

    @property
    def command(self) -> str:
        """The make command that makes this report again."""
        parts = ["make", self.slug]
        if self.profile != "default":
            parts.append(f"PROFILE={shlex.quote(self.profile)}")
        if self.params:
            parts.append(f"PARAMS={shlex.quote(self.params)}")
        if self.set:
            # make reads a lone dollar as its own, the shell the quotes
            parts.append(f"SET={shlex.quote(self.set.replace('$', '$$'))}")
        return " ".join(parts)


def _read_file(path: Path, where: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParameterError(f"{where}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ParameterError(f"{where}: cannot be read: {reason}") from None
    try:
        return _substitute(read_yaml(text), where)
    except ValueError as error:
        raise ParameterError(f"{where}: not valid YAML: {error}") from None


def _substitute(values: Any, where: str) -> Any:
    """Replace a value that is exactly `${NAME}` by that environment variable."""
    if not isinstance(values, dict):
        return values
    result = {}
    for name, value in values.items():
        match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
        if match and match[1] not in os.environ:
            raise ParameterError(
                f"{where}: {name}: the environment variable {match[1]} is not set; "
                f"run: export {match[1]}=..."
            )
        result[name] = _value(os.environ[match[1]]) if match else value
    return result


def _value(text: str) -> Any:
    """One value as YAML reads it; text that looks like a mapping ("a: b") stays text."""
    value = read_yaml(text)
    return text if isinstance(value, dict) else value


def parse_set(text: str) -> dict[str, Any]:
    """Parse `steps=50 noise=0.2 title='two words' fills=[black,mean]` into values.

    Raises:
        ParameterError: a word without `=`, a repeated name, an open quote or bracket.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ParameterError(f"SET: {text!r}: {error}") from None
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ParameterError(f"SET: {word!r} is not name=value")
        if name in values:
            raise ParameterError(f"SET: {name}: given twice")
        try:
            values[name] = _value(value)
        except ValueError as error:
            raise ParameterError(f"SET: {name}: {error}") from None
    return values


def load_notebook(path: Path, where: str) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(cell["source"], (str, list)) for cell in notebook["cells"]):
            raise KeyError("source")
        return notebook
    except FileNotFoundError:
        raise ParameterError(f"{where}: no such notebook") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ParameterError(f"{where}: not a readable notebook") from None


def title_and_question(notebook: Any) -> tuple[str, str, str]:
    """(title, question, rest) of the first Markdown cell: `# Title`, then a paragraph.

    Raises:
        ReportFailed: the first Markdown cell is not like that.
    """
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            if match := _HEAD.match(source):
                return match["title"].strip(), match["question"].strip(), source[match.end() :]
            break
    raise ReportFailed("the first Markdown cell must be '# Title' and below it the question")


def resolve_run(
    project: Project, name: str, profile: str, params: str | None = None, set: str | None = None
) -> Run:
    """Find the notebook, read its schema and check every value that is given.

    Raises:
        UsageError: one line that names the file (or SET) and the parameter. Nothing was started.
    """
    slug = project.resolve(name)
    project.check_profile(profile)
    where = f"notebooks/{slug}.ipynb"
    notebook = load_notebook(project.notebook(slug), where)
    schema = notebook_schema(notebook, where, project.root)
    given: dict[str, Any] = {}
    file = f"params/{profile}/{slug}.yaml"
    given |= check_values(schema, _read_file(project.root / file, file), file, project.root)
    if params:
        path = Path(params).expanduser()
        given |= check_values(schema, _read_file(path, params), params, project.root)
    if set:
        given |= check_values(schema, parse_set(set), "SET", project.root)
    values = {name: given.get(name, p.default) for name, p in schema.items()}
    return Run(project, slug, profile, params or None, set or None, notebook, schema, values, given)
