"""What made a report: a hash of everything it depends on, the commit, versions and the command."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.builder.overrides import Run
from lib.builder.parameters import locate

PINS = ("requirements.txt", "constraints.txt")
_PICTURES = {".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp"}


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


def library_files(root: Path) -> Iterator[Path]:
    """Every file of lib (code, templates, tables) in a fixed order; no caches, no hidden files."""
    for path in sorted((root / "lib").rglob("*")):
        parts = path.relative_to(root).parts
        if any(p.startswith(".") or p == "__pycache__" or p.endswith(".egg-info") for p in parts):
            continue
        if path.is_file() and path.suffix != ".pyc" and not path.name.endswith("~"):
            yield path


def _stamp(path: Path) -> list[Any]:
    """Names, sizes and times of what a path parameter names: enough to see a change."""
    if not path.is_dir():
        status = path.stat()
        return [path.name, status.st_size, status.st_mtime_ns]
    entries = sorted(p for p in path.rglob("*") if p.is_file())
    return [[str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns] for p in entries]


def content_hash(run: Run) -> str:
    """SHA-256 over the notebook's source, the parameters, lib and the pins.

    Pictures that the notebook names and the files behind path parameters count too (those by name,
    size and time). Time stamps of our own files do not: a fresh clone has the same hash.
    """
    root = run.project.root
    text = json.dumps(notebook_source(run.notebook))
    digest = hashlib.sha256(text.encode())
    digest.update(json.dumps(run.parameters, sort_keys=True).encode())
    files = list(library_files(root)) + [root / name for name in PINS if (root / name).exists()]
    for picture in sorted(run.project.notebooks.rglob("*")):
        if picture.suffix.lower() in _PICTURES and picture.name in text:
            files.append(picture)
    for path in files:
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for name, value in run.parameters.items():
        for item in value if isinstance(value, list) else [value]:
            if run.schema[name].names_path(item):
                digest.update(json.dumps(_stamp(locate(item, root))).encode())
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_state(root: Path) -> dict[str, Any]:
    """Commit and whether anything but the rendered reports differs from it; empty without git."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    status = _git(root, "status", "--porcelain", "--", ".", ":(exclude)reports")
    return {"commit": commit, "dirty": bool(status)}


def versions(root: Path) -> dict[str, str]:
    """Python and each pinned package that is installed."""
    found = {"python": platform.python_version()}
    pins = root / "requirements.txt"
    for line in pins.read_text(encoding="utf-8").splitlines() if pins.exists() else []:
        name = line.split("#")[0].split("==")[0].split("[")[0].strip()
        if name and not name.startswith("-"):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
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
