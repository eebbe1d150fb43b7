"""What a notebook records: refused when it is not a claim of the report, or not a number."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from support.projects import make_judged

from lib.core import markup
from lib.report.record import Report
from lib.report.verdicts import above, below, identity, share, unmeasured

YES = above([0.5, 1.5] * 10, of="a > b", unit="photos")
NO = below([0.9, 1.1] * 10, of="a < c", unit="photos")
OPEN = above([-1, 1.2] * 10, of="a > d", unit="photos")


def whole(**about):
    """The one core part of JU-3."""
    return [share(15, 20, 0.5, of="the whole", unit="photos", **about)]


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report whose rules were declared in a ledger of its own."""
    ledger = make_judged(tmp_path / "project") / "lib/core/ledger.yaml"
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("REPORT_RESULTS", str(folder / "results.json"))
    monkeypatch.setenv("REPORT_LEDGER", str(ledger))
    made = Report("04-judged")
    made.read = lambda: json.loads((folder / "results.json").read_text())
    made.folder = folder
    return made


@pytest.fixture
def shown(monkeypatch):
    """What a helper displays, as (mime, content)."""
    outputs = []
    monkeypatch.setattr(markup, "show", lambda mime, content: outputs.append((mime, content)))
    return outputs


def test_claims_are_written_whole_after_every_call(report):
    report.claim("JU-3", whole())
    report.claim("JU-2", [YES, NO, OPEN], wall_clock=True)
    claims = report.read()["claims"]
    assert [claim["id"] for claim in claims] == ["JU-2", "JU-3"]  # the ledger's order
    assert (claims[0]["verdict"], claims[0]["n"], claims[0]["wall_clock"]) == ("mixed", 20, True)
    assert claims[1]["statement"] == "It is the other way."
    assert list(report.folder.iterdir()) == [report.folder / "results.json"]


@pytest.mark.parametrize(
    ("name", "parts", "says"),
    [
        ("SG-1", [YES], "not a claim of 04-judged"),
        ("JU-9", [YES], "not a claim"),
        ("JU-1", [YES], "1 core parts, where the ledger has 2"),
        ("JU-1", [YES, replace(NO, core=False)], "1 core parts"),
        ("JU-1", [YES, YES], "two parts have one name"),
    ],
)
def test_what_was_not_declared_is_refused(report, name, parts, says):
    with pytest.raises(ValueError, match=f"{name}.*{says}"):
        report.claim(name, parts)
    assert report.read()["claims"] == [] and not report.judged


def test_whether_one_part_is_enough_is_the_ledgers_to_say(report):
    report.claim("JU-6", [YES, NO])
    report.claim("JU-1", [YES, NO])
    assert [claim["verdict"] for claim in report.read()["claims"]] == ["mixed", "supported"]


def test_a_claim_that_the_data_cannot_speak_to_has_no_numbers(report):
    report.claim("JU-3", [unmeasured("no photo has a box", of="boxes", unit="photos")])
    (claim,) = report.read()["claims"]
    assert (claim["verdict"], claim["n"]) == ("inconclusive", 0)
    assert (claim["estimate"], claim["interval"]) == (None, [None, None])
    assert markup.parts().estimate(claim) == "not measured here"


def test_a_claim_or_metric_is_recorded_once(report):
    report.claim("JU-3", whole())
    report.metric("a", 1)
    with pytest.raises(ValueError, match="already"):
        report.claim("JU-3", whole())
    with pytest.raises(ValueError, match="already"):
        report.metric("a", 1, wall_clock=True)


def test_what_can_vary_is_recorded_beside_the_number(report):
    report.metric("auc", 0.25)
    report.metric("photos", 20, varies="exact")
    report.metric("fooled", 235, varies="count", within=2)
    report.metric("error", 1e-7, varies="identity", within=1e-5)
    report.metric("loss", -0.5, varies="trained", interval=(-1, 0.5))
    report.metric("seconds", 3, wall_clock=True)
    results = report.read()
    assert results["metrics"] == {
        "auc": 0.25, "photos": 20, "fooled": 235, "error": 1e-7, "loss": -0.5
    }  # fmt: skip
    assert results["tolerances"] == {
        "auc": {"varies": "frozen"},
        "photos": {"varies": "exact"},
        "fooled": {"varies": "count", "within": 2.0},
        "error": {"varies": "identity", "within": 1e-5},
        "loss": {"varies": "trained", "interval": [-1.0, 0.5]},
    }
    assert results["wall_clock"] == {"seconds": 3}
    report.claim("JU-1", [YES, OPEN], varies="trained", n_within=3)
    report.claim("JU-3", whole(), varies="count", within=0.05)
    trained, count = report.read()["claims"]
    assert (trained["varies"], trained["n_within"]) == ("trained", 3)
    assert (count["varies"], count["within"], count["n_within"]) == ("count", 0.05, 0)
    assert count["threshold"] == 0.5


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"varies": "cold"}, "'cold' is not one of"),
        ({"varies": "count"}, "needs within="),
        ({"varies": "identity"}, "needs within="),
        ({"varies": "count", "within": -1}, "needs within="),
        ({"varies": "count", "within": float("nan")}, "needs within="),
        ({"within": 0.1}, "takes no within="),
        ({"varies": "trained", "within": 0.1}, "takes no within="),
    ],
)
def test_a_tolerance_goes_with_what_varies(report, facts, says):
    with pytest.raises(ValueError, match=says):
        report.metric("auc", 0.25, **facts)
    with pytest.raises(ValueError, match=says):
        report.claim("JU-3", whole(), **facts)
    results = report.read()
    assert (results["claims"], results["metrics"]) == ([], {})


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"varies": "trained"}, "go together"),
        ({"interval": (0, 1)}, "go together"),
        ({"varies": "trained", "interval": (0.3, 1)}, "not in its interval"),
        ({"varies": "trained", "interval": (1, 0)}, "not in its interval"),
        ({"varies": "trained", "interval": (0, float("inf"))}, "not a finite number"),
    ],
)
def test_a_trained_metric_has_an_interval_that_holds_it(report, facts, says):
    with pytest.raises(ValueError, match=says):
        report.metric("auc", 0.25, **facts)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"n_within": 2}, "takes no n_within="),
        ({"varies": "trained", "n_within": -1}, "not a count"),
        ({"varies": "trained", "n_within": 0.5}, "integer"),
    ],
)
def test_n_may_differ_only_where_something_decides_it(report, facts, says):
    with pytest.raises((TypeError, ValueError), match=says):
        report.claim("JU-3", whole(), **facts)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "x", None])
def test_metrics_are_finite_numbers(report, value):
    with pytest.raises((TypeError, ValueError)):
        report.metric("auc", value)
    assert report.read()["metrics"] == {}


def test_unknown_report():
    with pytest.raises(ValueError, match="99-nothing"):
        Report("99-nothing")


def test_by_hand_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.delenv("REPORT_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    Report("07-pixel-removal").metric("a", 1.0)
    assert list(tmp_path.iterdir()) == []


def test_table_is_escaped_captioned_and_formatted(report, shown):
    frame = pd.DataFrame(
        {"<b>file</b>": ["<script>"], "score": [0.12345], "n": [12345], "none": [float("nan")]},
        index=pd.Index(["row & one"], name="method"),
    )
    report.table(frame, "A <i>caption</i>.")
    html = shown[0][1]
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert "<i>" not in html
    assert '<th scope="row">row &amp; one</th>' in html
    assert "0.123<" in html
    assert "12,345<" in html
    assert ">–<" in html
    with pytest.raises(ValueError, match="caption"):
        report.table(frame, " ")


def test_verdicts_need_every_claim(report, shown):
    report.claim("JU-3", whole())
    with pytest.raises(ValueError, match="JU-1, JU-2, JU-4, JU-5, JU-6"):
        report.verdicts()
    for name, count in {"JU-1": 2, "JU-2": 3, "JU-4": 3, "JU-5": 2, "JU-6": 2}.items():
        parts = [replace(YES, of=f"<b>part {k}</b>") for k in range(count)]
        report.claim(name, parts)
    report.verdicts()
    html = shown[0][1]
    assert html.count("<tbody") == 6
    assert "&lt;b&gt;part 1&lt;/b&gt;" in html and "<b>part" not in html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (-0.1, "−0.100"),
        (12.345, "12.3"),
        (123.45, "123"),
        (999.4, "999"),
        (999.7, "1,000"),
        (12345.6, "12,346"),
        (0.0, "0.00"),
        (7, "7"),
        (1e-5, "1.00 × 10⁻⁵"),
        (None, "–"),
    ],
)
def test_numbers_for_people(value, text):
    assert markup.number(value) == text


def test_a_judgment_is_recorded_with_its_parts(report):
    report.claim("JU-2", [YES, NO, OPEN])
    (claim,) = report.read()["claims"]
    assert (claim["verdict"], claim["of"], claim["estimate"]) == ("mixed", "a < c", NO.estimate)
    assert (claim["statement"], claim["source"]) == (
        "One says yes and one says no.", "A document of judges"
    )  # fmt: skip
    assert claim["published"]["mask"] == [-44.0, 50000] and claim["sentences"]
    assert [part["verdict"] for part in claim["parts"]] == [
        "supported", "contradicted", "inconclusive"
    ]  # fmt: skip
    wanted = {"of", "estimate", "interval", "n", "unit", "p", "rule", "gate", "effect", "core"}
    assert all(wanted <= set(part) for part in claim["parts"])
    assert claim["parts"][2]["needed_n"] == OPEN.needed_n > 100
    assert 0 < claim["p"] < 0.05 and "q" not in claim


def test_an_identity_is_compared_as_one_among_other_parts(report):
    exact = identity([1e-9, 0.0], 1e-6, of="exact", unit="photos")
    report.claim("JU-1", [YES, exact], varies="trained")
    (claim,) = report.read()["claims"]
    assert [part["varies"] for part in claim["parts"]] == ["trained", "identity"]
    assert claim["parts"][1]["within"] == 1e-6 and claim["of"] == "a > b"


def test_a_claim_without_a_part_that_counts_has_no_numbers(report, shown):
    gated = [share(9, 10, 0.5, gate=OPEN, of=of, unit="photos") for of in ("x", "y")]
    report.claim("JU-5", gated)
    (claim,) = report.read()["claims"]
    assert (claim["verdict"], claim["n"], claim["estimate"]) == ("inconclusive", 0, None)
    assert [part["estimate"] for part in claim["parts"]] == [0.9, 0.9]
    row = markup.parts().verdict_row(claim)
    assert "no part counts" in row and "No part counts." in row
    assert row.count("its control is not passed, “a &gt; d” is inconclusive") == 2


def test_parts_that_cannot_be_measured_are_recorded_and_shown(report):
    flat = above([0.2] * 12, of="flat", unit="photos")
    none = unmeasured("no photo has a box", of="none", unit="photos")
    report.claim("JU-4", [flat, none, above([1, 2], of="few", unit="photos")])
    (claim,) = report.read()["claims"]
    assert [part["interval"][0] for part in claim["parts"][:2]] == [None, None]
    row = markup.parts().verdict_row(claim)
    for words in ("(no interval)", "no photo has a box", "too few: 2 of at least 10"):
        assert words in row
    assert "10,000" not in row and "most likely" not in row
