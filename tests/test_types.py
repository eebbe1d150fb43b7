"""Types agree where they are written, and shapes are checked while the tests run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from lib import copies

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_type_checker_has_nothing_to_say():
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


def test_a_wrong_shape_is_an_error_in_tests(small):
    with pytest.raises(TypeCheckError, match="images"):
        copies.target_gradient(small, torch.zeros(3, 8, 8), torch.tensor([0]))
    with pytest.raises(TypeCheckError, match="targets"):
        copies.target_gradient(small, torch.zeros(2, 3, 8, 8), torch.tensor([0]))
