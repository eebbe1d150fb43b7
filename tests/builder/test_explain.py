"""`make explain`: a photo of one's own reaches the notebook whatever its name."""

from lib.builder.__main__ import arguments, settings
from lib.builder.overrides import parse_set


def test_names_become_parameters_whatever_is_in_them():
    odd = "my cat's $photo #1.jpg"
    words = ["--value", f"photo={odd}", "--value", "label=tiger cat", "--set", "steps=5"]
    found = parse_set(settings(arguments().parse_args(["build", "explain", *words])))
    assert {name: str(value) for name, value in found.items()} == {
        "photo": odd, "label": "tiger cat", "steps": "5",
    }  # fmt: skip


def test_nothing_given_is_none():
    assert settings(arguments().parse_args(["build", "explain"])) is None
