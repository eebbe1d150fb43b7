"""docs/what-we-found.md quotes results: every number in it is one of the claim that it names."""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/what-we-found.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"(?:^- |\] )(?=[A-Z])([^\n]*?) \[([A-Z]+-\d+), (\w+)\]", TEXT, re.MULTILINE)


def claim(profile: str, name: str) -> dict:
    results = (json.loads(path.read_text()) for path in ROOT.glob(f"reports/{profile}/*.json"))
    return next(found for each in results for found in each["claims"] if found["id"] == name)


def values(found: dict) -> list[float]:
    """Estimates, interval ends and n of a claim's parts, and the estimates of their controls."""
    numbers = []
    for part in found["parts"]:
        numbers += [part["estimate"], part["n"], part["needed_n"], *part["interval"]]
    return [abs(number) for number in numbers if number is not None]


@pytest.mark.parametrize(("sentence", "name", "profile"), QUOTED, ids=lambda text: text[:20])
def test_every_number_is_a_result(sentence, name, profile):
    known = values(claim(profile, name))
    for said in re.findall(r"\d+\.\d+", sentence):
        digits = len(said.partition(".")[2])
        assert any(math.isclose(float(said), round(v, digits), abs_tol=1e-9) for v in known), said


def test_the_page_quotes():
    assert len(QUOTED) > 15
