"""The ledger is whole: what every claim needs, and nothing that its reader would have to guess."""

import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
from scipy.stats import false_discovery_control

from lib.core.ledger import LEDGER as FILE
from lib.core.ledger import Claim, claims_of, load_ledger, q_values

FOLDER = Path(__file__).parents[2] / "notebooks"
JUDGE_NOTHING = {"00-explain", "18-ground-truth"}
NOTEBOOKS = {path.stem for path in FOLDER.glob("*.ipynb")} - JUDGE_NOTHING
LEDGER = load_ledger()
DOCUMENTS = {"PR": 6, "SG": 7, "XG": 11, "LG": 16, "MP": 10}


def test_every_report_has_claims_and_the_documents_have_fifty():
    codes = Counter(name.split("-")[0] for name in LEDGER)
    for code, count in codes.items():
        own = [entry for name, entry in LEDGER.items() if name.startswith(f"{code}-")]
        assert {entry.id for entry in own} == {f"{code}-{i + 1}" for i in range(count)}
        assert {entry.family for entry in own} == {"documents" if code in DOCUMENTS else "field"}
        assert len({entry.document for entry in own}) == 1
    assert {code: codes[code] for code in DOCUMENTS} == DOCUMENTS
    assert {entry.report for entry in LEDGER.values()} == NOTEBOOKS


def test_a_document_named_as_the_fields_makes_its_claims_another_family(tmp_path):
    fields = "report: a, sentences: [b], meaning: b, core: [c > d], unit: photo"
    path = written(tmp_path, f"PR-1: {{{fields}}}\n  BM-1: {{{fields}}}")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("documents:\n", "field: [BM]\ndocuments:\n  BM: A paper\n"))
    claims = load_ledger(path)
    assert [claim.family for claim in claims.values()] == ["documents", "field"]


@pytest.mark.parametrize("entry", LEDGER.values(), ids=LEDGER)
def test_a_claim_can_be_judged_and_read(entry):
    assert entry.sentences and entry.core, "a sentence and a part that carries it"
    for sentence in entry.sentences:
        assert bool(re.search("[가-힣]", sentence)) == (entry.family == "documents")
        assert not re.search("[«»]", sentence)
    for line in (entry.meaning, entry.unit, *entry.core, *entry.why, *entry.shown):
        assert isinstance(line, str) and line.strip() == line and "\n" not in line and line
        assert not re.search("[가-힣]", line), "the rule is in English"
    assert all(line.endswith(".") for line in entry.shown), "a comma cut it in two"
    parts = [*entry.core, *entry.why]
    assert len(set(parts)) == len(parts), "a part stands once"
    assert entry.meaning.endswith((".", ")")) and isinstance(entry.gate, str)
    assert type(entry.existential) is bool and type(entry.least) is int and entry.least >= 1


def test_published_numbers_are_numbers_and_say_whose_they_are():
    with_numbers = [entry for entry in LEDGER.values() if entry.published]
    assert with_numbers
    for entry in with_numbers:
        source, *labels = entry.published
        assert source == "source" and re.search(r"\d{4}|notebook|document", entry.published[source])
        for label in labels:
            value = entry.published[label]
            for number in value if isinstance(value, list) else [value]:
                assert type(number) in (int, float), f"{entry.id}: {label}"
        assert labels


def test_only_sometimes_is_existential():
    some = [entry for entry in LEDGER.values() if entry.existential]
    assert [entry.id for entry in some if entry.family == "documents"] == ["LG-6", "LG-10"]


def test_the_head_of_the_file_explains_every_field():
    head = FILE.read_text(encoding="utf-8").split("documents:")[0]
    for field in fields(Claim):
        assert field.name in ("id", "document", "family") or re.search(
            rf"^#   {field.name} ", head, re.M
        )


def test_a_field_left_out_has_its_default(tmp_path):
    claims = load_ledger(written(tmp_path, "PR-1: {report: a, sentences: [가], meaning: b, "
                                 "core: [c > d], unit: photo}"))  # fmt: skip
    assert claims == {
        "PR-1": Claim(id="PR-1", report="a", document="A document", family="documents",
                      sentences=["가"], meaning="b", core=["c > d"], unit="photo")
    }  # fmt: skip
    assert claims["PR-1"].least == 10 and not claims["PR-1"].existential


def written(folder: Path, claim: str) -> Path:
    path = folder / "ledger.yaml"
    path.write_text(f"documents:\n  PR: A document\nclaims:\n  {claim}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("PR-1: {report: a}", "PR-1: .*missing"),
        ("PR-1: {report: a, sentence: b}", "PR-1: .*sentence"),
        ("ZZ-1: {report: a}", "ZZ-1: 'ZZ'"),
        ("PR-1: {report: a, report: b}", "duplicate key"),
        ("PR-1: [", "ledger.yaml: "),
        ("- PR-1", "not a ledger"),
    ],
)
def test_a_ledger_that_is_none_is_refused_in_one_line(tmp_path, claim, words):
    with pytest.raises(ValueError, match=words) as raised:
        load_ledger(written(tmp_path, claim))
    assert "\n" not in str(raised.value)


def test_the_ledger_is_read_without_pytorch():
    code = "import sys; from lib.core.ledger import load_ledger; load_ledger(); "
    code += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_claims_of_one_report(tmp_path):
    fields = "sentences: [가], meaning: b, core: [c > d, e > f], unit: photo"
    path = written(
        tmp_path, f"PR-1: {{report: 02-b, {fields}}}\n  PR-2: {{report: 01-a, {fields}}}"
    )
    assert list(claims_of("02-b", path)) == ["PR-1"] and not claims_of("03-c", path)
    (claim,) = claims_of("01-a", path).values()
    assert (claim.document, claim.core) == ("A document", ["c > d", "e > f"])


def test_q_is_benjamini_and_yekutielis():
    p = [0.001, None, 0.2, 0.013, None, 0.9, 0.013]
    oracle = iter(false_discovery_control([v for v in p if v is not None], method="by"))
    assert q_values(p) == [None if v is None else pytest.approx(next(oracle)) for v in p]
    assert q_values([None]) == [None] and q_values([]) == []
