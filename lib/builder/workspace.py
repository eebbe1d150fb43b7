"""Where things are: one `Project` per repository root, so that tests can build a throw-away one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.core.ledger import LEDGER

CODE = Path(__file__).resolve().parents[2]  # the folder that makes `import lib` work
CUSTOM = "custom"  # where a report goes that PARAMS or SET changed: never over a profile's own
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colors of a terminal


class UsageError(Exception):
    """Input that cannot be used. The message is one line for the reader; the exit code is 2."""


class ReportFailed(Exception):
    """A report that could not be made: what happened, in which cell."""

    def __init__(self, reason: str, *, cell: int = 0, source: str = "", traceback: str = ""):
        super().__init__(reason)
        self.reason, self.cell, self.source = reason, cell, source
        self.traceback = ANSI.sub("", traceback)


def nearest(name: str, known: Iterable[str], also: Iterable[str] = ()) -> str:
    """What to say of a name that is not known; those in `also` are only for guessing."""
    near = difflib.get_close_matches(name, [*known, *also], 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"


@dataclass(frozen=True)
class Project:
    root: Path = CODE

    @property
    def notebooks(self) -> Path:
        return self.root / "notebooks"

    @property
    def cache(self) -> Path:
        return self.root / ".cache"

    @property
    def ledger(self) -> Path:
        """The claims of this project; a folder without its own ledger uses the package's."""
        own = self.root / "lib" / "core" / "ledger.yaml"
        return own if own.exists() else LEDGER

    def notebook(self, slug: str) -> Path:
        return self.notebooks / f"{slug}.ipynb"

    def params(self, profile: str, slug: str) -> Path:
        return self.root / "params" / profile / f"{slug}.yaml"

    def folder(self, profile: str) -> Path:
        return self.root / "reports" / profile

    def html(self, profile: str, slug: str) -> Path:
        return self.folder(profile) / f"{slug}.html"

    def json(self, profile: str, slug: str) -> Path:
        return self.folder(profile) / f"{slug}.json"

    def failed(self, profile: str, slug: str) -> Path:
        return self.folder(profile) / f"{slug}.FAILED.html"

    def executed(self, profile: str, slug: str) -> Path:
        return self.cache / "executed" / profile / f"{slug}.ipynb"

    def slugs(self) -> list[str]:
        """Names of all notebooks, in order; a leading dot or underscore hides a file."""
        return sorted(p.stem for p in self.notebooks.glob("[0-9a-z]*.ipynb"))

    def built(self, profile: str) -> set[str]:
        """Names of all that has a page or results in reports/<profile>/."""
        files = [*self.folder(profile).glob("*.html"), *self.folder(profile).glob("*.json")]
        return {file.stem.removesuffix(".FAILED") for file in files} - {"index", "compare"}

    def profiles(self) -> list[str]:
        return sorted(
            {"default"} | {p.name for p in (self.root / "params").glob("*") if p.is_dir()}
        )

    def resolve(self, name: str) -> str:
        """The slug of a notebook, given `07-pixel-removal`, `pixel-removal` or `07`."""
        slugs = self.slugs()
        name = Path(name).name.removesuffix(".ipynb").removesuffix(".html")
        hits = [s for s in slugs if name in (s, s.partition("-")[2], s.partition("-")[0])]
        if len(hits) == 1:
            return hits[0]
        hint = nearest(name, slugs, [s.partition("-")[2] for s in slugs])
        raise UsageError(f"notebooks: no notebook {name!r}; {hint}")

    def check_profile(self, profile: str) -> None:
        """Raise UsageError unless the profile has a folder in params/."""
        if profile not in self.profiles():
            hint = nearest(profile, self.profiles())
            raise UsageError(f"PROFILE={profile}: there is no folder params/{profile}; {hint}")
