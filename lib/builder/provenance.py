"""What made a report: a hash of everything it depends on, the commit, versions and the command."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.builder.overrides import Run
from lib.builder.pair import elsewhere
from lib.builder.parameters import locate
from lib.builder.workspace import CODE

PINS = ("requirements.txt", "constraints.txt")


def notebook_source(notebook: dict[str, Any]) -> list[Any]:
    """What matters of a notebook: each cell's kind, text and tags; no outputs, no metadata."""
    return [
        [
            cell["cell_type"],
            "".join(cell["source"]),
            sorted(cell.get("metadata", {}).get("tags", [])),
        ]
        for cell in notebook["cells"]
    ]


def files_below(folder: Path, levels: int = 99, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file in a fixed order, links followed but for loops; no caches, no hidden files."""
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith(("__pycache__", ".egg-info", "~")):
            continue
        if path.is_file():
            yield path
        elif levels and path.is_dir() and path.resolve() not in above:
            yield from files_below(path, levels - 1, above)


def _stamp(path: Path) -> list[Any]:
    """Names, sizes and times of what a path parameter names: enough to see a change.

    Of a folder: the files in it and in its folders, which is where photos are looked for.
    """
    stamps = []
    for file in files_below(path, levels=1) if path.is_dir() else [path]:
        status = file.stat()
        times = [status.st_mtime_ns, status.st_ctime_ns]  # the second cannot be set back
        stamps.append([os.path.relpath(file, path), status.st_size, *times])
    return stamps


def content_hash(run: Run) -> str:
    """SHA-256 over the notebook's source, the parameters, lib and the pins.

    What lies beside the notebook and is named in it (pictures, modules), the verdicts of other
    profiles that its page tells, and the files behind path parameters count too (those by name,
    size and time). Time stamps of our own files do not: a fresh clone has the same hash.
    """
    root = run.project.root
    text = json.dumps(notebook_source(run.notebook))
    digest = hashlib.sha256(text.encode())
    digest.update(json.dumps(run.parameters, sort_keys=True).encode())
    home = root if (root / "lib").exists() else CODE  # without a lib of its own: the one that runs
    files = {path.relative_to(home): path for path in files_below(home / "lib")}
    files |= {Path(name): root / name for name in PINS if (root / name).exists()}
    for path in files_below(run.project.notebooks):
        if path.suffix != ".ipynb" and path.stem in text:
            files[path.relative_to(root)] = path
    for name, path in files.items():
        digest.update(b"\0%b\0" % os.fsencode(name))
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if others := elsewhere(run.project, run.target, run.slug):
        digest.update(json.dumps(others).encode())
    for parameter, value in run.parameters.items():
        for item in value if isinstance(value, list) else [value]:
            if run.schema[parameter].names_path(item):
                digest.update(json.dumps(_stamp(locate(item, root))).encode())
    return digest.hexdigest()


class GitFailed(Exception):
    """A question that git has no answer to: its own words, one line."""


def ask_git(root: Path, *arguments: str) -> str:
    """What git says of the repository around ``root``.

    Raises:
        GitFailed: it cannot say it.
    """
    # a hook or an alias that calls make has set these for another repository
    ours = {k: v for k, v in os.environ.items() if k[:4] != "GIT_" or k.startswith("GIT_CONFIG")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            env=ours,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=20,
        )
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired) as error:
        raise GitFailed(" ".join(str(error).split())) from None
    if done.returncode:
        raise GitFailed(next(iter(done.stderr.splitlines()), f"exit code {done.returncode}"))
    return done.stdout.rstrip("\n")


def git(root: Path, *arguments: str) -> str | None:
    """The same where no answer is one, too: None."""
    with contextlib.suppress(GitFailed):
        return ask_git(root, *arguments)
    return None


def git_state(root: Path) -> dict[str, Any]:
    """Commit and whether anything but the rendered reports differs from it; empty without git."""
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    status = git(root, "status", "--porcelain", "--", ".", ":(exclude)reports")
    return {"commit": commit, "dirty": bool(status)}


def versions(root: Path) -> dict[str, str]:
    """Python and each pinned package that is installed."""
    found = {"python": platform.python_version()}
    pins = root / "requirements.txt"
    text = pins.read_text(encoding="utf-8") if pins.exists() else ""
    for name in re.findall(r"^\w[\w.-]*", text, re.MULTILINE):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def collect(run: Run, build: str, threads: int, recorded: dict[str, Any]) -> dict[str, Any]:
    """The provenance of one report; what the notebook recorded (device, weights) comes first."""
    return {
        **recorded,
        "content_hash": build,
        **git_state(run.project.root),
        "command": run.command,
        "threads": threads,
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions(run.project.root),
    }
