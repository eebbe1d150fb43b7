"""Prose with numbers: what a template may say, and what it must not."""

import numpy as np
import pytest
import torch
from IPython.testing.globalipapp import start_ipython

from lib.report import say
from lib.report.checks import agree, check
from lib.report.verdicts import above


@pytest.mark.parametrize(
    "template, text",
    [
        ("{{ x | f(2) }} and {{ -x | f }}", "0.12 and −0.12"),
        ("{{ -0.0001 | f(2) }}", "0.00"),
        ("{{ x | s(1) }} {{ -x | s(1) }}", "+0.1 −0.1"),
        ("{{ x | p }} {{ x | p(1) }}", "12 % 12.3 %"),
        ("{{ 1234.5 | g }}", "1,234"),
        ("{{ n }} photos", "12,000 photos"),
        ("{{ ['grad_cam', 'rise', 'x'] | words }}", r"Grad\-CAM, RISE and x"),
        ("{{ ['rise'] | words }}", "RISE"),
        ("1{{ ', ' if x > 0 }}2", r"1\, 2"),
        ("{{ name }}", r"a\_b\<i\>"),
        ("{% if x > 0 %}up{% endif %}{{ 'down' if x < 0 }}", "up"),
        ("{{ between((0.5, (0.25, 0.75))) }}", "0.500 [0.250, 0.750]"),
    ],
)
def test_what_is_said(template, text):
    assert say.fill(template, x=0.123, n=12000, name="a_b<i>") == text


@pytest.mark.parametrize(
    "template, says",
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ x }}", "needs a format"),
        ("{{ array.mean() }}", "needs a format"),
        ("{{ array }}", "needs a format|cannot be told"),
        ("{{ none }}", "NoneType cannot be told"),
        ("{{ nan | f }}", "nan is not a finite number"),
        ("{{ x | f(2) ", "%%say, line 1"),
        ("{{ array[1:, 0] }}", "in a cell of code before it"),
    ],
)
def test_what_cannot_be_said(template, says):
    values = {"x": 0.5, "array": np.arange(3.0), "none": None, "nan": float("nan")}
    with pytest.raises(ValueError, match=says):
        say.fill(template, **values)


def test_an_estimate_with_its_interval():
    part = above(np.arange(20.0), of="a", unit="photo")
    low, high = part.interval
    assert low < 9.5 < high
    assert say.fill("{{ between(part) }}", part=part) == f"9.50 [{low:.2f}, {high:.1f}]"
    assert say.fill("{{ between(part) }}", part=above([1.0], of="a", unit="photo")) == "1.00"


def test_plain_text_has_no_escapes():
    assert say.plain("{{ name }}\n of  two", name="a_b (c)") == "a_b (c) of two"


def test_the_cell_magic_shows_and_folds(monkeypatch):
    shown = []
    monkeypatch.setattr(say.markup, "show", lambda mime, text: shown.append((mime, text)))
    shell = start_ipython() or say.get_ipython()
    monkeypatch.setattr(say, "get_ipython", lambda: shell)
    say.install()
    shell.user_ns["number"] = 3
    shell.run_cell_magic("say", "", "There are {{ number }}.\n")
    shell.run_cell_magic("say", "Solution", "It is **{{ number }}**.\n")
    assert shown == [
        ("text/markdown", "There are 3."),
        ("text/markdown", "<details><summary>Solution</summary>\n\nIt is **3**.\n\n</details>"),
    ]


def test_by_hand_and_library_agree_or_the_cell_fails():
    agree(np.array([1.0, 2.0]), np.array([1.0, 2.0001]))
    with pytest.raises(AssertionError, match=r"differ by 0\.1 of"):
        agree(np.array([1.0, 2.0]), np.array([1.0, 2.1]))
    with pytest.raises(ValueError, match="shapes"):
        agree(np.zeros(2), np.zeros(3))


@pytest.mark.parametrize(
    "answer, expected, says",
    [
        (None, 1.0, "Not answered"),
        (1.005, 1.0, "Right"),
        (1.02, 1.0, "Not yet"),
        (np.ones(3), [1, 1, 1.001], "Right"),
        ("rise", "rise", "Right"),
        ("rise", 2.0, "a number is asked for, and this is of type `str`"),
        (2.0, "rise", "look again"),
        (1.02, 1.0, "too large"),
        (-3, 1.0, "too small"),
        (-1.0, 1.0, "sign"),
        (float("nan"), 1.0, "not a finite number"),
        (torch.ones(2, requires_grad=True), [1.0, 1.0], "Right"),
        ([1.0, 2.0], 1.0, "the shape () is asked for, and this has (2,)"),
        ([1.0, 2.0], [1.0, 1.0], "1 of 2 numbers differ"),
        (["a", "b"], ["a", "c"], "Not yet"),
        (["a", ["b"]], ["a", "b"], "Not yet"),
    ],
)
def test_exercises_say_whether_an_answer_is_right(monkeypatch, answer, expected, says):
    shown = []
    monkeypatch.setattr(say.markup, "show", lambda mime, text: shown.append(text))
    check(answer, expected)
    assert says in shown[0]
