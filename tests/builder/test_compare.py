"""What counts as the same number, and what as a change: each in the notebook's own terms."""

import copy
import json

import pytest
from support.projects import built_project, judged_project

from lib.builder.compare import compare, shown
from lib.builder.index import index_page
from lib.builder.workspace import Project
from lib.core.tolerance import near, on_the_edge, overlap


@pytest.fixture
def old():
    return json.loads((built_project() / "reports/default/01-sample.json").read_text())


@pytest.fixture
def new(old):
    """What a re-run gives: of the provenance only what the notebook records."""
    again = copy.deepcopy(old)
    again["provenance"] = {"seeds": [0], "device": "cpu", "content_hash": "now"}
    return again


def lines(old, new, *but):
    return [(s, what) for s, what, _ in compare(old, new) if s not in ("PASS", *but)]


@pytest.mark.parametrize(
    ("rule", "same", "other"),
    [
        ({"varies": "exact"}, (3, 3.0), (3, 4)),
        ({"varies": "exact"}, (0.1 + 0.2, 0.3), (0.3, 0.3 + 1e-8)),
        ({"varies": "exact"}, (0, 1e-16), (0, 1e-9)),
        ({"varies": "frozen"}, (2.0, 2.00209), (2.0, 2.00211)),
        ({"varies": "frozen"}, (-2.0, -2.00209), (-2.0, -2.00211)),
        ({"varies": "frozen"}, (0.0, 9.9e-5), (0.0, 1.1e-4)),
        ({"varies": "count", "within": 2}, (235, 237), (235, 238)),
        ({"varies": "count", "within": 0.2}, (0.1, 0.3), (0.1, 0.31)),
        ({"varies": "identity", "within": 1e-5}, (1e-9, 9e-6), (1e-9, 2e-5)),
        ({"varies": "identity", "within": 1e-5}, (0.5, 2e-5), (0.5, 9e-6)),
    ],
)
def test_values_agree_as_far_as_they_can_vary(rule, same, other):
    assert near(*same, rule)
    assert not near(*other, rule)


@pytest.mark.parametrize("varies", ["exact", "frozen"])
def test_a_number_moved_by_five_percent_is_seen(varies):
    for value in (0.05, 0.2929, -17.0, 1e6):
        assert near(value, value, {"varies": varies})
        assert not near(value * 1.05, value, {"varies": varies})


def test_trained_numbers_agree_through_either_interval():
    assert overlap(0.5, (0, 1), 0.9, (0.8, 1.0))
    assert overlap(0.9, (0.8, 1.0), 0.5, (0, 1))
    assert not overlap(0.5, (0.4, 0.6), 0.7, (0.65, 0.75))
    assert overlap(0.5, (0.5, 0.5), 0.45, (0.4, 0.55))  # all draws alike: no spread to compare
    assert overlap(0.5, (0.5, 0.5), 0.50001, (0.50001, 0.50001))


def test_an_interval_that_is_ten_times_as_wide_is_another_measurement():
    assert overlap(0.5, (0.0, 0.9), 0.8, (0.7, 0.8))  # nine times
    assert not overlap(0.5, (-9, 9), 0.8, (0.7, 0.9))
    assert not overlap(0.8, (0.7, 0.9), 0.8, (-9, 9))


def test_an_interval_that_does_not_hold_its_own_estimate_says_nothing():
    assert not overlap(1e9, (0.4, 0.6), 0.5, (0.4, 0.6))
    assert not overlap(0.5, (0.6, 0.4), 0.5, (0.4, 0.6))


def test_the_edge_is_a_tenth_of_the_width():
    assert on_the_edge((-0.05, 0.95), 0.0)
    assert on_the_edge((0.05, 1.05), 0.0)
    assert not on_the_edge((-0.15, 0.85), 0.0)
    assert on_the_edge((-0.15, 0.85), 0.9)
    assert not on_the_edge((0.5, 0.5), 0.0)


def test_the_same_results_pass(old, new):
    found = list(compare(old, new))
    assert {status for status, _, _ in found} == {"PASS", "WALL-CLOCK"}
    assert [what for status, what, _ in found if status == "WALL-CLOCK"] == [
        "SA-3: A < B", "SA-3", "wave.seconds"
    ]  # fmt: skip


OF_SINE = "SA-1: the mean of a sine < 0.5"
CHANGES = {
    "SA-1.statement": (("claims", 0, "statement"), "Another."),
    "SA-1.source": (("claims", 0, "source"), "Another."),
    "SA-1.varies": (("claims", 0, "varies"), "trained"),
    "SA-1.n_within": (("claims", 0, "n_within"), 9),
    "SA-1.wall_clock": (("claims", 0, "wall_clock"), True),
    "SA-1.sentences": (("claims", 0, "sentences"), ["Proven."]),
    f"{OF_SINE}.unit": (("claims", 0, "parts", 0, "unit"), "percent"),
    f"{OF_SINE}.level": (("claims", 0, "parts", 0, "level"), 0.99),
    f"{OF_SINE}.remark": (("claims", 0, "parts", 0, "remark"), "Proven."),
    "SA-3: A < B.n": (("claims", 2, "parts", 0, "n"), 21),
    "wave.mean": (("metrics", "wave.mean"), 0.2),
    "wave.mean: varies": (("tolerances", "wave.mean"), {"varies": "trained"}),
    "wave.mean: within": (("tolerances", "wave.mean"), {"varies": "frozen", "within": 9.0}),
    "other": (("metrics", "other"), 1.0),
    "parameter steps": (("parameters", "steps"), 6),
    "parameter more": (("parameters", "more"), 6),
    "provenance seeds": (("provenance", "seeds"), [1]),
    "title": (("title",), "Another title"),
    "question": (("question",), "Another?"),
    "profile": (("profile",), "smoke"),
    "report": (("report",), "02-brief"),
    "changed": (("changed",), []),
    "note": (("note",), "Proven."),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_of_the_file_is_one_line(old, new, what):
    *path, last = CHANGES[what][0]
    place = old
    for key in path:
        place = place[key]
    place[last] = CHANGES[what][1]
    found = [line for line in lines(old, new, "WALL-CLOCK") if not line[1].endswith(".of")]
    assert found == [("CHANGED", what)]  # and that the claim's numbers are not its part's


def test_missing_numbers_are_changes(old, new):
    del new["metrics"]["wave.mean"], new["wall_clock"]["wave.seconds"], new["claims"][0]
    gone = [("CHANGED", "SA-1"), ("CHANGED", "wave.mean"), ("CHANGED", "wave.seconds")]
    assert lines(old, new, "WALL-CLOCK") == gone
    assert (
        lines(new | {"provenance": {"seeds": [0]}}, old | {"provenance": {}}, "WALL-CLOCK") == gone
    )


@pytest.mark.parametrize("value", [True, "0.5", None, float("nan")])
def test_what_is_not_a_number_does_not_pass_for_one(old, new, value):
    old["metrics"]["wave.mean"], new["metrics"]["wave.mean"] = value, 1.0
    try:
        assert ("CHANGED", "wave.mean") in lines(old, new)
    except TypeError:  # for verify, a report that was not compared
        assert isinstance(value, str) or value is None


def test_a_claim_that_stands_there_twice_is_a_change(old, new):
    old["claims"].insert(0, old["claims"][0] | {"verdict": "contradicted"})
    assert lines(old, new, "WALL-CLOCK") == [("CHANGED", "claims")]


def test_the_files_own_tolerance_is_not_believed(old, new):
    old["tolerances"]["wave.mean"] = {"varies": "count", "within": 100.0}
    old["metrics"]["wave.mean"] += 0.01
    changed = lines(old, new, "WALL-CLOCK")
    assert ("CHANGED", "wave.mean") in changed
    assert ("CHANGED", "wave.mean: varies") in changed


def set_part(claim, **facts):
    """Change a claim's only part, and what it copies of it."""
    claim["parts"][0] |= facts
    claim |= {name: value for name, value in facts.items() if name in claim}


def test_wall_clock_values_are_not_compared_but_their_n_is(old, new):
    set_part(new["claims"][2], estimate=1.0, verdict="supported", interval=[0, 2])
    new["wall_clock"]["wave.seconds"] = 99.0
    assert lines(old, new, "WALL-CLOCK") == []
    set_part(new["claims"][2], estimate=None, verdict="inconclusive")
    remarks = [remark for _, what, remark in compare(old, new) if what == "SA-3"]
    assert len(remarks) == 1 and remarks[0].endswith("-> inconclusive, –")


def test_what_cannot_be_measured_has_no_numbers(old, new):
    nothing = {"n": 0, "verdict": "inconclusive", "estimate": None, "interval": [None, None]}
    for results in (old, new):
        set_part(results["claims"][0], **nothing)
    assert lines(old, new, "WALL-CLOCK") == []
    set_part(old["claims"][0], estimate=0.3)  # a number out of nothing
    assert lines(old, new, "WALL-CLOCK") == [("CHANGED", f"{OF_SINE}.estimate")]
    set_part(new["claims"][0], n=20, estimate=0.3, interval=[0.2, 0.4])
    new["claims"][0]["n_within"] = 20
    assert ("CHANGED", f"{OF_SINE}.n") in lines(old, new)


@pytest.fixture
def trained(old, new):
    for results in (old, new):
        results["claims"][0] |= {"varies": "trained", "n_within": 2}
        set_part(
            results["claims"][0], varies="trained", threshold=0.0, n=20,
            verdict="supported", estimate=0.5, interval=[0.05, 1.05],
        )  # fmt: skip
    return old, new


def test_a_trained_claim_agrees_through_its_intervals(trained):
    old, new = trained
    set_part(new["claims"][0], estimate=0.9, interval=[0.6, 1.2], n=22)
    assert lines(old, new, "WALL-CLOCK") == []
    set_part(new["claims"][0], estimate=1.4, interval=[1.1, 1.6])
    assert lines(old, new, "WALL-CLOCK") == [("CHANGED", f"{OF_SINE}.estimate")]
    set_part(new["claims"][0], estimate=0.9, interval=[0.6, 1.2], n=23)
    assert lines(old, new, "WALL-CLOCK") == [("CHANGED", f"{OF_SINE}.n")]


def test_a_verdict_may_turn_on_the_edge_and_nowhere_else(trained):
    old, new = trained
    both = [f"{OF_SINE}.verdict", "SA-1.verdict"]
    set_part(new["claims"][0], verdict="inconclusive", interval=[-0.1, 1.0])
    assert lines(old, new, "WALL-CLOCK") == [("EDGE", what) for what in both]
    set_part(old["claims"][0], interval=[0.3, 1.0])
    set_part(new["claims"][0], interval=[-0.3, 1.0])
    assert lines(old, new, "WALL-CLOCK") == [("CHANGED", what) for what in both]
    near_zero = {"verdict": "contradicted", "interval": [-0.9, -0.01], "estimate": -0.4}
    set_part(new["claims"][0], **near_zero)  # from one side to the other is no edge
    assert ("CHANGED", "SA-1.verdict") in lines(old, new)


@pytest.fixture
def judged():
    """(old, new) results of a report whose claims are judged by their parts."""
    results = json.loads((judged_project() / "reports/default/04-judged.json").read_text())
    again = copy.deepcopy(results) | {"provenance": {"content_hash": "now"}}
    return results, again


@pytest.mark.slow
def test_the_same_judgments_pass_and_are_shown(judged):
    assert lines(*judged) == []
    folder = judged_project() / "reports/default"
    page = (folder / "04-judged.html").read_text()
    index, _ = index_page(Project(judged_project()), "default")
    assert list(shown(judged[0], page, index)) == []
    judged[0]["claims"][1]["parts"][2]["needed_n"] += 1
    assert list(shown(judged[0], page, index)) == [
        ("CHANGED", "JU-2", "the page shows something else")
    ]


FIRST, SHARE = "JU-2: insertion: mask > gradient", "JU-5: accuracy > one half"
PARTS = {
    f"{FIRST}.verdict": (1, 0, "verdict", "inconclusive"),
    f"{FIRST}.estimate": (1, 0, "estimate", 0.8),
    f"{FIRST}.interval.low": (1, 0, "interval", [0.4, 1.3650723]),
    f"{FIRST}.n": (1, 0, "n", 21),
    f"{FIRST}.rule": (1, 0, "rule", "Another."),
    f"{FIRST}.core": (1, 0, "core", False),
    f"{FIRST}.varies": (1, 0, "varies", "exact"),
    f"{FIRST}.threshold": (1, 0, "threshold", 0.1),
    f"{SHARE}.gate": (4, 1, "gate", []),
    "JU-1: the map is the formula's (identity).estimate": (0, 1, "estimate", 2e-6),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PARTS)
def test_each_change_of_a_part_is_one_line(judged, what):
    old, new = judged
    claim, part, name, value = PARTS[what]
    old["claims"][claim]["parts"][part][name] = value
    if name == "interval":  # only its lower end
        value[1] = new["claims"][claim]["parts"][part]["interval"][1]
    assert lines(old, new) == [("CHANGED", what)]


@pytest.mark.slow
def test_what_follows_from_compared_numbers_is_not_compared(judged):
    old, new = judged
    for part in (old["claims"][1], *old["claims"][1]["parts"]):
        part |= {"p": 0.5, "needed_n": 7, "effect": 9.0, "smallest": 2.0}
    assert lines(old, new) == []
    new["claims"][1]["parts"][0]["estimate"] += 5e-4  # within what a frozen number may differ by
    assert lines(old, new) == []


@pytest.mark.slow
def test_parts_come_and_go_and_numbers_are_those_of_a_part(judged):
    old, new = judged
    gone = new["claims"][1]["parts"].pop(2)
    assert lines(old, new) == [("CHANGED", f"JU-2: {gone['of']}")]
    old["claims"][0]["estimate"] -= 1.0
    assert lines(old, new)[0] == ("CHANGED", "JU-1.of")


@pytest.mark.slow
def test_another_part_may_decide_a_claim_if_all_parts_agree(judged):
    old, new = judged
    other = new["claims"][0]["parts"][1]
    new["claims"][0] |= {k: other[k] for k in ("of", "estimate", "interval", "n", "rule", "unit")}
    assert lines(old, new) == []


@pytest.mark.slow
def test_a_trained_claim_is_on_the_edge_if_its_parts_are(judged):
    old, new = judged
    for results in judged:
        results["claims"][1]["varies"] = "trained"
        for part in results["claims"][1]["parts"]:
            part["varies"] = "trained"
    claim, part = new["claims"][1], new["claims"][1]["parts"][0]
    claim["verdict"] = "inconclusive"  # only the stricter level turned
    assert lines(old, new) == [("EDGE", "JU-2.verdict")]
    part |= {"verdict": "inconclusive", "interval": [-0.05, 1.3]}
    assert lines(old, new) == [("EDGE", f"{FIRST}.verdict"), ("EDGE", "JU-2.verdict")]
    part["interval"] = [-0.5, 1.3]
    old["claims"][1]["parts"][0]["interval"] = [0.5, 1.3]
    assert lines(old, new) == [("CHANGED", f"{FIRST}.verdict"), ("CHANGED", "JU-2.verdict")]


@pytest.mark.slow
def test_a_frozen_claim_by_parts_never_turns(judged):
    old, new = judged
    new["claims"][1]["verdict"] = "inconclusive"
    assert lines(old, new) == [("CHANGED", "JU-2.verdict")]


@pytest.mark.slow
def test_of_times_the_parts_are_shown_and_not_compared(judged):
    old, new = judged
    new["claims"][4]["wall_clock"] = old["claims"][4]["wall_clock"] = True
    new["claims"][4]["verdict"] = "supported"
    new["claims"][4]["parts"][0] |= {"estimate": 9.0, "verdict": "supported", "gate": []}
    assert lines(old, new, "WALL-CLOCK") == []
