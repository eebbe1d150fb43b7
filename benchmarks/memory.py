"""Peak memory must not grow with the number of copies."""

import subprocess
import sys

SCRIPT = """
import resource
from benchmarks.setting import classifier, photos
from lib.attribution import integrated_gradients
pixels, targets = photos(1)
integrated_gradients(classifier(), pixels, targets, steps={steps})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak(steps: int) -> float:
    """Peak resident memory in MiB of a fresh process that runs Integrated Gradients."""
    command = [sys.executable, "-c", SCRIPT.format(steps=steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure() -> dict:
    few, many = peak(25), peak(300)
    check = {
        "ratio": "300 steps / 25 steps",
        "value": many / few,
        "target": 1.1,
        "kind": "at most",
        "reached": many / few <= 1.1,
    }
    return {
        "name": "Peak memory of Integrated Gradients (MiB)",
        "megabytes": {"25 steps": few, "300 steps": many},
        "checks": [check],
    }
