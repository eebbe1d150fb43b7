"""`make explain`: a photo of one's own reaches the notebook whatever its name."""

import shlex

import pytest

from lib.builder.__main__ import settings
from lib.builder.overrides import parse_set


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch):
    for name in ("PHOTO", "CLASS", "CLASSIFIER", "WEIGHTS"):
        monkeypatch.delenv(name, raising=False)


def test_names_become_parameters_whatever_is_in_them(monkeypatch):
    odd = "my cat's $photo #1.jpg"
    monkeypatch.setenv("PHOTO", odd)
    monkeypatch.setenv("CLASS", "tiger cat")
    found = parse_set(settings("00-explain", "steps=5"))
    assert {name: str(value) for name, value in found.items()} == {
        "photo": odd, "label": "tiger cat", "steps": "5",
    }  # fmt: skip


def test_without_a_photo_nothing_is_added_and_other_reports_ignore_it(monkeypatch):
    assert settings("explain", None) is None
    assert settings("explain", "steps=5") == "steps=5"
    monkeypatch.setenv("PHOTO", "cat.jpg")
    assert settings("07-pixel-removal", "steps=5") == "steps=5"
    assert shlex.split(settings("explain", None)) == ["photo=cat.jpg"]
