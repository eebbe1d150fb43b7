"""The reports on other CPUs: their instruction sets, emulated, and other numbers of threads.

Two others render a report of the smoke profile that this one renders too, each into a folder of its
own with a cache of its own, so that every network and mask is trained anew; `make verify`'s
comparison has to find the same verdicts and no number that changed. What a CPU lacks cannot be
emulated: below AVX2 (another architecture, say) there is nothing to compare.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from support.projects import command, environment, smoke_report

from lib.builder.compare import compare
from lib.builder.workspace import CODE

REPORTS = [  # the most sensitive
    pytest.param(slug, marks=pytest.mark.xdist_group(slug))
    for slug in ("04-x-gradient", "13-deletion-regions", "15-adversarial-defense")
]
MACHINES = {  # name -> (what PyTorch then says, threads, environment)
    "avx2": ("AVX2", 2, {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "sse": ("DEFAULT", 1, {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
        reason="this CPU cannot act as another",
    ),
]


@pytest.mark.parametrize("name", MACHINES)
def test_the_other_machine_is_another(name):
    says, _, emulated = MACHINES[name]
    ask = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    answer = subprocess.check_output([sys.executable, "-c", ask], env=os.environ | emulated)
    assert answer.decode().strip() == says


@pytest.mark.parametrize("slug", REPORTS)
def test_another_cpu_comes_to_the_same_verdicts(slug, tmp_path):
    builds = {name: build(slug, tmp_path / name, *how) for name, (_, *how) in MACHINES.items()}
    for name, process in builds.items():
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, f"{name}: {said}"
    native = recorded(smoke_report(slug), slug)
    for name in MACHINES:
        lines = list(compare(native, recorded(tmp_path / name, slug)))
        bad = [line for line in lines if line[0] not in ("PASS", "WALL-CLOCK")]
        assert lines and not bad, f"{name}: {bad}"


def build(slug, root, threads, emulated) -> subprocess.Popen:
    """Start to render one report of the smoke profile in a project that holds nothing else."""
    for folder, file in (("notebooks", f"{slug}.ipynb"), ("params/smoke", f"{slug}.yaml")):
        (root / folder).mkdir(parents=True)
        shutil.copy(CODE / folder / file, root / folder)
    environ = (
        environment()
        | emulated
        | {
            "ATTRIBUTION_CACHE": str(root / "cache"),
            "OMP_NUM_THREADS": str(threads),
        }
    )
    options = ["--profile", "smoke", "--no-index"]
    return subprocess.Popen(
        command(root, "build", slug, *options), env=environ, cwd=root, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def recorded(root, slug) -> dict:
    """What a report recorded, but for where it was made: of threads there is one, or two."""
    text = (root / f"reports/smoke/{slug}.json").read_text(encoding="utf-8")
    return json.loads(text) | {"provenance": {}}
