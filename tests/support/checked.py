"""Every annotation of lib is checked while tests run, shapes too: conftest.py begins with this."""

from pathlib import Path

import jaxtyping
from beartype import BeartypeConf, beartype

LIB = Path(__file__).parents[2] / "lib"
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def checked(function):
    """The function with its annotations checked; torch.fx traces ``forward`` with no tensors."""
    return function if function.__name__ == "forward" else _checked(function)


def check_annotations() -> None:
    """Of what is imported from now on, but for the rooms that handle no tensors.

    (Simulations call the rule of verdicts ten thousand times: checked, they take minutes.)
    """
    rooms = {path.parent.name for path in LIB.glob("*/__init__.py")} - {"builder", "report"}
    names = [f"lib.{room}" for room in sorted(rooms)]
    jaxtyping.install_import_hook(names, f"{__name__}.checked")
