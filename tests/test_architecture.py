"""The house is as drawn: rooms, arrows and rules agree, and every package says what it holds."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
ROOMS = sorted(path.parent.name for path in (ROOT / "lib").glob("*/__init__.py"))


def drawn() -> set[tuple[str, str]]:
    """The arrows (who imports, who is imported) between rooms in ARCHITECTURE.md."""
    (drawing,) = re.findall(r"```mermaid\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.S)
    arrows = re.findall(r"^\s+(\w+)(?:\(\[.*?\]\))? --> (\w+)$", drawing, re.M)
    return {(one, other) for one, other in arrows if one in ROOMS}


def imported() -> set[tuple[str, str]]:
    """The arrows between rooms in the code."""
    graph = grimp.build_graph("lib", cache_dir=None)
    rooms = {module: module.split(".")[1] for module in graph.modules if "." in module}
    pairs = (
        (rooms[one], rooms.get(other))
        for one in rooms
        for other in graph.find_modules_directly_imported_by(one)
    )
    return {(one, other) for one, other in pairs if other and one != other}


def reach(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """All pairs that arrows connect, over any number of rooms."""
    pairs = set(arrows)
    while more := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
        pairs |= more
    return pairs


def test_the_rules_hold():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_drawing_is_the_code():
    arrows, code = drawn(), imported()
    assert {room for pair in arrows for room in pair} == set(ROOMS)
    assert arrows <= code, "drawn, but not in the code"
    missing = {(one, other) for one, other in code - reach(arrows) if one != "report"}
    assert not missing, "in the code, but no arrows lead there"
    assert all(one != other for one, other in reach(arrows)), "a circle is drawn"


def test_every_room_says_what_it_holds_and_imports():
    for room in ROOMS:
        text = importlib.import_module(f"lib.{room}").__doc__ or ""
        lines = text.strip().splitlines()
        assert 3 <= len(lines) <= 6, room
        assert "mports" in text, f"{room}: what may it import?"
        table = (ROOT / "ARCHITECTURE.md").read_text()
        assert f"| `{room}` |" in table
