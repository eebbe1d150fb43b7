"""What a notebook records: refused when it is not a claim of the report, or not a number."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from support.projects import make_judged

from lib.core import markup
from lib.report.record import Report
from lib.report.verdicts import above, below, claim_verdict, identity, share, unmeasured


def finding(**changes):
    facts = {
        "verdict": "supported",
        "estimate": 0.5,
        "interval": (0.25, 0.75),
        "n": 20,
        "unit": "probability",
        "rule": "Supported if the interval lies above zero.",
        "threshold": 0.0,
    }
    return SimpleNamespace(**facts | changes)


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORT_RESULTS", str(tmp_path / "results.json"))
    made = Report("07-pixel-removal")
    made.read = lambda: json.loads((tmp_path / "results.json").read_text())
    made.folder = tmp_path
    return made


@pytest.fixture
def shown(monkeypatch):
    """What a helper displays, as (mime, content)."""
    outputs = []
    monkeypatch.setattr(markup, "show", lambda mime, content: outputs.append((mime, content)))
    return outputs


def test_claims_are_written_whole_after_every_call(report):
    report.claim("PR-2", finding())
    report.claim("PR-1", finding(verdict="contradicted", n=3.0), wall_clock=True)
    claims = report.read()["claims"]
    assert [claim["id"] for claim in claims] == ["PR-1", "PR-2"]  # the ledger's order
    assert claims[0]["verdict"] == "contradicted"
    assert (claims[0]["n"], claims[0]["wall_clock"]) == (3, True)
    assert claims[1]["statement"].startswith("Under LeRF")
    assert list(report.folder.iterdir()) == [report.folder / "results.json"]


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("SG-1", {}, "not a claim of 07-pixel-removal"),
        ("PR-9", {}, "not a claim"),
        ("PR-1", {"verdict": "true"}, "'true' is not one of"),
        ("PR-1", {"estimate": float("nan")}, "not a finite number"),
        ("PR-1", {"interval": (0.1, float("inf"))}, "not a finite number"),
        ("PR-1", {"interval": (0.2, 0.1)}, "reversed"),
        ("PR-1", {"n": -1}, "not a count"),
        ("PR-1", {"n": 0}, "supported from n = 0"),
    ],
)
def test_bad_claims_are_refused(report, name, changes, says):
    with pytest.raises(ValueError, match=says):
        report.claim(name, finding(**changes))
    assert report.read()["claims"] == []


def test_a_claim_that_the_data_cannot_speak_to_has_no_numbers(report, shown):
    report.claim("PR-3", finding(verdict="inconclusive", n=0))
    (claim,) = report.read()["claims"]
    assert (claim["verdict"], claim["n"]) == ("inconclusive", 0)
    assert (claim["estimate"], claim["interval"]) == (None, [None, None])
    assert markup.parts().estimate(claim) == "not measured here"


def test_a_claim_or_metric_is_recorded_once(report):
    report.claim("PR-1", finding())
    report.metric("a", 1)
    with pytest.raises(ValueError, match="already"):
        report.claim("PR-1", finding())
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
    report.claim("PR-1", finding(threshold=0.2), varies="trained", n_within=3)
    report.claim("PR-2", finding(), varies="count", within=0.05)
    trained, count = report.read()["claims"]
    assert (trained["varies"], trained["threshold"], trained["n_within"]) == ("trained", 0.2, 3)
    assert (count["varies"], count["within"], count["n_within"]) == ("count", 0.05, 0)


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
        report.claim("PR-1", finding(), **facts)
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
    with pytest.raises(ValueError, match="not in its interval"):
        report.claim("PR-1", finding(estimate=0.8), varies="trained")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"n_within": 2}, "takes no n_within="),
        ({"varies": "trained", "n_within": -1}, "not a count"),
        ({"varies": "trained", "n_within": 0.5}, "not a count"),
    ],
)
def test_n_may_differ_only_where_something_decides_it(report, facts, says):
    with pytest.raises(ValueError, match=says):
        report.claim("PR-1", finding(), **facts)


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
    report.claim("PR-1", finding())
    with pytest.raises(ValueError, match="PR-2, PR-3, PR-4, PR-5, PR-6"):
        report.verdicts()
    for name in ("PR-2", "PR-3", "PR-4", "PR-5", "PR-6"):
        report.claim(name, finding(verdict="inconclusive", rule="<b>rule</b>"))
    report.verdicts()
    html = shown[0][1]
    assert html.count("<tbody") == 6
    assert "&lt;b&gt;rule" in html


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


OLD_KEYS = [
    "id",
    "source",
    "statement",
    "measure",
    "verdict",
    "estimate",
    "interval",
    "n",
    "unit",
    "rule",
    "threshold",
    "varies",
    "n_within",
    "wall_clock",
]
YES = above([0.5, 1.5] * 10, of="a > b", unit="photos")
NO = below([0.9, 1.1] * 10, of="a < c", unit="photos")
OPEN = above([-1, 1.2] * 10, of="a > d", unit="photos")


@pytest.fixture
def second(report, tmp_path, monkeypatch):
    """A report of the second edition, whose rules were declared in ledger.yaml."""
    root = make_judged(tmp_path / "project")
    monkeypatch.setenv("REPORT_LEDGER", str(root / "lib/core/ledger.yaml"))
    made = Report("04-judged")
    made.read = report.read
    return made


def test_a_finding_is_recorded_as_it_was(report):
    report.claim("PR-1", finding())
    assert list(report.read()["claims"][0]) == OLD_KEYS


def test_a_judgment_is_recorded_with_its_parts(second):
    second.claim("JU-2", claim_verdict([YES, NO, OPEN], published={}))
    (claim,) = second.read()["claims"]
    assert list(claim)[: len(OLD_KEYS)] == OLD_KEYS
    assert (claim["verdict"], claim["of"], claim["estimate"]) == ("mixed", "a < c", NO.estimate)
    assert (claim["statement"], claim["source"]) == (
        "One says yes and one says no.", "A document of judges"
    )  # fmt: skip
    assert claim["published"]["mask"] == [44.0, 43.1], "the ledger's, if none is given"
    assert claim["sentences"] and claim["measure"] == "first; second; third"
    assert [part["verdict"] for part in claim["parts"]] == [
        "supported", "contradicted", "inconclusive"
    ]  # fmt: skip
    wanted = {"of", "estimate", "interval", "n", "unit", "p", "rule", "gate", "effect", "core"}
    assert all(wanted <= set(part) for part in claim["parts"])
    assert claim["parts"][2]["needed_n"] == OPEN.needed_n > 100
    assert 0 < claim["p"] < 0.05 and "q" not in claim


def test_an_identity_is_compared_as_one_among_other_parts(second):
    exact = identity([1e-9, 0.0], 1e-6, of="exact", unit="photos")
    second.claim("JU-1", claim_verdict([YES, exact]), varies="trained")
    (claim,) = second.read()["claims"]
    assert [part["varies"] for part in claim["parts"]] == ["trained", "identity"]
    assert claim["parts"][1]["within"] == 1e-6 and claim["of"] == "a > b"


def test_a_claim_without_a_part_that_counts_has_no_numbers(second, shown):
    gated = [share(9, 10, 0.5, gate=OPEN, of=of, unit="photos") for of in ("x", "y")]
    second.claim("JU-5", claim_verdict(gated))
    (claim,) = second.read()["claims"]
    assert (claim["verdict"], claim["n"], claim["estimate"]) == ("inconclusive", 0, None)
    assert [part["estimate"] for part in claim["parts"]] == [0.9, 0.9]
    row = markup.parts().verdict_row(claim)
    assert "no part counts" in row and "No part counts." in row
    assert row.count("its control is not passed, “a &gt; d” is inconclusive") == 2


def test_parts_that_cannot_be_measured_are_recorded_and_shown(second):
    flat = above([0.2] * 12, of="flat", unit="photos")
    none = unmeasured("no photo has a box", of="none", unit="photos")
    second.claim("JU-4", claim_verdict([flat, none, above([1, 2], of="few", unit="photos")]))
    (claim,) = second.read()["claims"]
    assert [part["interval"][0] for part in claim["parts"][:2]] == [None, None]
    row = markup.parts().verdict_row(claim)
    for words in ("(no interval)", "no photo has a box", "too few: 2 of at least 10"):
        assert words in row
    assert "10,000" not in row and "would have shown" not in row


@pytest.mark.parametrize(
    ("parts", "existential", "says"),
    [
        ([YES], False, "1 core parts, where the ledger has 2, not existential"),
        ([YES, NO], True, "not existential"),
        ([YES, YES], False, "two parts have one name"),
    ],
)
def test_what_was_declared_is_what_is_recorded(second, parts, existential, says):
    with pytest.raises(ValueError, match=f"JU-1: .*{says}"):
        second.claim("JU-1", claim_verdict(parts, existential))
    assert second.read()["claims"] == []
