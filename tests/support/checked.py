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
    """Of what is imported from now on; the builder starts without what that needs."""
    rooms = [path.parent.name for path in LIB.glob("*/__init__.py")]
    names = [f"lib.{room}" for room in rooms if room != "builder"]
    jaxtyping.install_import_hook(names, f"{__name__}.checked")
