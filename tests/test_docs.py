"""What the pages in docs/ say: every number of the findings is a result, the cards are current."""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FINDINGS = (ROOT / "docs/what-we-found.md").read_text(encoding="utf-8")
CARDS = (ROOT / "docs/cards.md").read_text(encoding="utf-8")
TAG = re.compile(r"\[([A-Z]+-\d+), (\w+)\]")
HOLDS = {  # the verdict of all that stands under a heading
    "What the documents say and our runs contradict": "contradicted",
    "What holds in part": "mixed",
    "What holds": "supported",
}
PARAMETERS = {"XG-1": ["80"], "XG-2": ["20", "300"]}  # of a run: a share of the rise, steps


def quoted() -> list[tuple[str, str, str, str]]:
    """(heading, what is said, claim, profile) of every quote."""
    found, heading = [], ""
    for line in FINDINGS.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        pieces = TAG.split(line)
        quotes = zip(pieces[::3], pieces[1::3], pieces[2::3], strict=False)
        found += [(heading, *quote) for quote in quotes]
    return found


QUOTED = quoted()


def claim(profile: str, name: str) -> dict:
    results = (json.loads(path.read_text()) for path in ROOT.glob(f"reports/{profile}/*.json"))
    return next(found for each in results for found in each["claims"] if found["id"] == name)


def values(found: dict) -> list[float]:
    """Estimate, ends of the interval, n and needed n of a claim's parts, without their signs."""
    numbers = []
    for part in found["parts"]:
        numbers += [part["estimate"], part["n"], part["needed_n"], *part["interval"]]
    return [abs(number) for number in numbers if number is not None]


@pytest.mark.parametrize(("heading", "sentence", "name", "profile"), QUOTED)
def test_every_number_is_a_result_and_every_verdict_that_of_its_heading(
    heading, sentence, name, profile
):
    found = claim(profile, name)
    known = values(found)
    for said in re.findall(r"\d+(?:\.\d+)?", sentence):
        digits = len(said.partition(".")[2])
        same = any(math.isclose(float(said), round(v, digits), abs_tol=1e-9) for v in known)
        assert same or said in PARAMETERS.get(name, []), said
    assert found["verdict"] == HOLDS.get(heading, found["verdict"])


def test_no_quote_is_left_out():
    assert len(QUOTED) == len(re.findall(r"\[[A-Z]+-\d", FINDINGS)) > 20
    assert HOLDS.keys() <= {heading for heading, *_ in QUOTED}


def test_the_cards_are_of_the_pinned_versions():
    named = re.findall(r"package `([\w-]+)` ([\d.]+\d)", CARDS)
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len(named) == 4 and all(f"{name}=={version}" in pins for name, version in named)


def reports_in(listed: str) -> set[str]:
    """Numbers of reports, as "00, 03 to 05" says them."""
    ranges = re.findall(r"(\d\d)(?: to (\d\d))?", listed)
    return {f"{k:02}" for first, last in ranges for k in range(int(first), int(last or first) + 1)}


@pytest.mark.parametrize(
    ("card", "reads"),
    [
        ("Twenty photographs", r"^images: str|load_images\("),
        ("Digits", r"^from lib\.data\.(digits|tasks) import"),
        ("Faces", r"load_faces\("),
        ("Survey", r"load_survey\("),
    ],
)
def test_a_card_names_the_reports_that_read_its_data(card, reads):
    text = CARDS.partition(f"## {card}\n")[2].partition("## ")[0]
    named = reports_in(re.search(r"^\| used in \| (.+) \|$", text, re.MULTILINE)[1])
    found = set()
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        found |= {path.name[:2]} if re.search(reads, code, re.MULTILINE) else set()
    assert named == found
