"""The values of one run. The later one wins: notebook, profile, PARAMS, SET."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.builder.parameters import Parameter, check_values, notebook_schema, shorten
from lib.builder.workspace import CUSTOM, Project, ReportFailed, UsageError
from lib.builder.yamlfile import LARGEST, Plain, read_yaml

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
    settings: str | None  # SET as given
    notebook: dict[str, Any]
    schema: dict[str, Parameter]
    parameters: dict[str, Any]  # every parameter's value
    given: dict[str, Any]  # those that a file or SET names: what papermill injects
    variables: dict[str, str] = field(default_factory=dict)  # what files took from the environment

    @property
    def target(self) -> str:
        """Its folder in reports/: an experiment never overwrites a profile's report."""
        return CUSTOM if self.params or self.settings else self.profile

    @functools.cached_property
    def head(self) -> tuple[str, str, str]:
        return title_and_question(self.notebook)

    @property
    def injected(self) -> dict[str, Any]:
        """What the kernel gets: the values given, paths absolute (its cwd is notebooks/)."""
        root = self.project.root
        return {name: self.schema[name].absolute(value, root) for name, value in self.given.items()}

    @property
    def changed(self) -> list[str]:
        return [n for n, p in self.schema.items() if self.parameters[n] != p.default]

    @property
    def command(self) -> str:
        """The make command that makes this report again."""
        profile = "" if self.profile == "default" else self.profile
        given = {"PROFILE": profile, "PARAMS": self.params, "SET": self.settings}
        words = [f"{name}={shlex.quote(text)}" for name, text in self.variables.items()]
        words += ["make", self.slug]  # it reads a lone dollar as its own, the shell the quotes
        words += [f"{k}={shlex.quote(v.replace('$', '$$'))}" for k, v in given.items() if v]
        return " ".join(words)


def _read_file(path: str | Path, where: str) -> dict[str, Any]:
    """The names of a YAML file, each with its text or list of texts."""
    path = os.path.expanduser(path)
    if not os.path.isfile(path):  # a device or a pipe may never end
        raise UsageError(f"{where}: no such file")
    try:
        with open(path, "rb") as file:
            values = read_yaml(file.read(4 * LARGEST).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise UsageError(f"{where}: cannot be read as YAML: {reason}") from None
    if not isinstance(values, dict) and values not in (None, ""):
        raise UsageError(f"{where}: expected `name: value` lines, got {shorten(values)}")
    return values or {}


def _substitute(value: Any, where: str, variables: dict[str, str]) -> Any:
    """Put environment variables in the place of `${NAME}`, and note them in `variables`."""
    if isinstance(value, list):
        return [_substitute(item, where, variables) for item in value]

    if not isinstance(value, str) or not _VARIABLE.search(value):
        return value
    for name in _VARIABLE.findall(value):
        if not os.environ.get(name):
            state = "empty" if name in os.environ else "not set"
            hint = f"the environment variable {name} is {state}; run: export {name}=..."
            raise UsageError(f"{where}: {hint}")
        variables[name] = os.environ[name]
    return Plain(_VARIABLE.sub(lambda match: variables[match[1]], value))


def parse_set(text: str) -> dict[str, Plain]:
    """Parse `steps=50 noise=0.2 title='two words' fills=[black,mean]` into texts.

    Raises:
        UsageError: a word without `=`, a repeated name, an open quote.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"SET: {shorten(text)}: {error}") from None
    values: dict[str, Plain] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"SET: {shorten(word)} is not name=value")
        if name in values:
            raise UsageError(f"SET: {shorten(name)} is given twice")
        values[name] = Plain(value)
    return values


def load_notebook(path: Path, where: str) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(cell["source"], (str, list)) for cell in notebook["cells"]):
            raise KeyError("source")
        return notebook
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{where}: not a readable notebook") from None


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
    project: Project,
    name: str,
    profile: str,
    params: str | None = None,
    settings: str | None = None,
) -> Run:
    """Find the notebook, read its schema and check every value that is used.

    Raises:
        UsageError: one line that names the file (or SET) and the parameter. Nothing was started.
    """
    slug = project.resolve(name)
    project.check_profile(profile)
    where = f"notebooks/{slug}.ipynb"
    notebook = load_notebook(project.notebook(slug), where)
    schema = notebook_schema(notebook, where, project.root)
    file = project.params(profile, slug)
    files = [(params, params if params.isprintable() else shorten(params))] if params else []
    if profile != "default" or os.path.lexists(file):
        files.append((file, f"params/{profile}/{slug}.yaml"))
    else:  # the notebook's own values, but not because of a misspelled name
        known = {f"{slug}.yaml" for slug in project.slugs()}
        for stray in sorted({path.name for path in file.parent.glob("[!.]*")} - known):
            raise UsageError(f"params/default/{stray}: there is no such notebook")
    variables: dict[str, str] = {}
    given = check_values(schema, parse_set(settings or ""), "SET", project.root)
    for path, where in files:  # what a later source gives needs nothing from an earlier one
        values = {
            name: _substitute(value, f"{where}: {name}", variables)
            for name, value in _read_file(path, where).items()
            if name not in given
        }
        given |= check_values(schema, values, where, project.root)
    values = {name: given.get(name, p.default) for name, p in schema.items()}
    return Run(project, slug, profile, params, settings, notebook, schema, values, given, variables)
