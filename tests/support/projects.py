"""A throw-away project for the tests of the report builder: real notebooks, but no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from lib.builder.pair import sealed

ROOT = Path(__file__).parents[2]

LEDGER = """field: [QU]
documents: {SA: A document (2020), QU: Another document, NO: Another document}
claims:
  SA-1: {report: 01-sample, unit: draws, sentences: [], core: [Mean of a sine over draws.],
    meaning: Sine is below one half on average.}
  SA-2: {report: 01-sample, unit: draws, sentences: [], core: [Paired difference.],
    meaning: The cosine is larger than the sine.}
  SA-3: {report: 01-sample, unit: draws, sentences: [], core: [Nothing.],
    meaning: A < B & <script>alert(1)</script> stays text.}
  QU-1: {report: 02-brief, unit: ones, sentences: [], core: [Identity.], meaning: One is one.}
  NO-1: {report: 03-not-written, unit: ones, sentences: [], core: [Later.],
    meaning: Nobody has looked yet.}
"""

PARAMETERS = """from typing import Literal

steps: int = 4  # how many steps [1, 100]
noise: float = 0.15  # share of the range [0, 1)
kind: Literal["sine", "cosine"] = "sine"  # which wave
names: list[str] = ["a", "b"]  # labels
images: str | None = None  # path: a folder of pictures
pause: float = 0.0  # seconds to sleep [0, 1000]
fault: str = ""  # what goes wrong"""

FAULTS = """import os, signal, sys, time
if pause:
    with open(os.environ["REPORT_RESULTS"] + ".pid", "w") as file:
        file.write(str(os.getpid()))
time.sleep(pause)
if fault == "error":
    raise ValueError("<b>this cell fails</b> on purpose")
if fault == "exit":
    sys.exit(0)
if fault == "os-exit":
    os._exit(0)
if fault == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if fault == "hang":
    time.sleep(1000)
if fault == "stderr":
    print("a warning from below", file=sys.stderr)"""

# cells start with %% kind tags; PARAMETERS and FAULTS stand for the sources above
SAMPLE_TEXT = r"""
%% markdown
# A sample report

**Does a wave** stay below one half, and is $\sin x \le 1$?

The document says so. A [reference](https://example.org/paper) is an ordinary link.
%% code parameters
PARAMETERS
%% code
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

from lib.report import say
from lib.report.record import Report
from lib.report.verdicts import above, below
%% markdown
## The formula

The mean over $n$ draws is

$$\bar y = \frac{1}{n} \sum_{i=1}^{n} \sin(x_i) \odot \mathbb{1}_{x_i > 0}$$

and the same section has a table.

| rule | order |
| --- | --- |
| midpoint | 2 |

### A second level

```python
length = 'a long line of code that certainly does not fit into 360 pixels of width'
```
%% code
x = np.linspace(0, 6, 50 * steps)
figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(x, np.sin(x) if kind == "sine" else np.cos(x))
facts = {"alt": "A wave of about one period.", "caption": "The wave, $y = \\sin x$.", "cover": True}
display(figure, metadata={"image/png": facts})
plt.close(figure)
%% code remove-input
FAULTS
%% code
report = Report("01-sample")
mean = float(np.mean(np.sin(x)))
report.metric("wave.mean", mean)
report.metric("wave.seconds", 1.25, wall_clock=True)
report.provenance(seeds=[0], device="cpu")
print("<script>alert(2)</script>")
name = "<script>alert(1)</script>.jpg *not bold* $x$"
say.install()
%% code
%%say
The mean is **{{ mean | f(3) }}** for {{ name }}.
%% code remove-input
rows = {
    "file": ["<script>alert(3)</script>.jpg", "b"],
    "score": [0.123456, float("nan")],
    "count": [3, 12345],
    "a rather long column name": ["some words that need room"] * 2,
}
report.table(pd.DataFrame(rows), "Scores <b>by</b> file.")
%% markdown
## Verdict
%% code remove-input
about = {"unit": "draws"}
report.claim("SA-1", [below(np.sin(x), 0.5, of="the mean of a sine < 0.5", **about)])
report.claim("SA-2", [above(-1 - np.sin(x), of="cosine > sine", **about)])
times = 1000 * np.sin(x)
report.claim("SA-3", [above(times, of="A < B", **about)], wall_clock=True)
report.verdicts()
%% markdown
## Exercises

1. Double `steps`. What happens?

<details><summary>Solution</summary>

Nothing *much*: $\sin$ does not change.

</details>

## Verdict

A heading may come twice.
"""

QUICK_TEXT = """
%% markdown
# A quick report

Is one equal to one?
%% code parameters
PARAMETERS
%% code
FAULTS
%% code
from lib.report.record import Report
from lib.report.verdicts import identity

report = Report("02-brief")
report.metric("steps", steps, varies="exact")
report.claim("QU-1", [identity([0.0], 0.5, of="one is one", unit="ones")])
report.verdicts()
"""

# in place of the quick one: real rows of twelve photos, for what needs PyTorch
ROWS_TEXT = QUICK_TEXT.replace(
    """from lib.report.record import Report
""",
    """from lib.report import open_lesson
""",
).replace(
    """report = Report("02-brief")
""",
    """given = {"classifier": "efficientnet-lite0", "images": "embedded", "limit": 12}
report = lesson = open_lesson("02-brief", given)
rows = lesson.rows("removal", chunk=1, methods={"gradient": {}}, fractions=[0, 1])
report.metric("mean", float(rows.select_dtypes("number").mean().mean()))
""",
)

JUDGED_LEDGER = """documents: {JU: A document of judges}
claims:
  JU-1: {report: 04-judged, unit: photos, sentences: ['IG의 경우 그 감소폭이 제일 크다'],
    meaning: All say yes., core: [area of the method < random, area of the method < edges]}
  JU-2: {report: 04-judged, unit: photos, sentences: ['다른 방법에 비해 더 좋은 성능'],
    meaning: One says yes and one says no., core: [first, second, third],
    published: {source: 'A paper & its notebook, 2017', mask: [-44.0, 50000], gradient: 46.0}}
  JU-3: {report: 04-judged, unit: photos, sentences: ['가'], meaning: It is the other way.,
    core: [the whole]}
  JU-4: {report: 04-judged, unit: photos, sentences: ['나'], meaning: Nobody knows yet.,
    core: [weak, few, without spread], why: [reason]}
  JU-5: {report: 04-judged, unit: photos, sentences: ['다'], meaning: The control does as well.,
    core: [accuracy, share]}
  JU-6: {report: 04-judged, unit: photos, sentences: ['라'], meaning: There are cases.,
    core: [case, other], existential: true}
"""

# effects of planted values are known: a mean of `effect` with a standard deviation of about 1
JUDGED_TEXT = """
%% markdown
# A report with many verdicts

Which verdicts are there?
%% code parameters
PARAMETERS
%% code
import numpy as np
from scipy.stats import norm

from lib.report.record import Report
from lib.report.verdicts import above, below, identity, share


def planted(effect, n=20):
    return effect + norm.ppf((np.arange(n) + 0.5) / n)


def about(of, **more):
    return {"of": of, "unit": "photos", **more}


report = Report("04-judged")
%% code
exact = identity([1e-9, 2e-9], 1e-6, **about("the map is the formula's (identity)"))
yes = below(planted(-1.2), **about("area under the curve: the method < random, each map signed"))
report.claim("JU-1", [yes, exact])
%% code
no = below(planted(1.5), **about("insertion: <b>mask</b> < Grad-CAM"))
sure = above(planted(0.9), **about("insertion: mask > gradient"))
open_ = above(planted(0.3), 0.1, **about("insertion: mask > occlusion"))
report.claim("JU-2", [sure, no, open_])
%% code
report.claim("JU-3", [share(3, 40, 0.5, **about("share restored > 0.5"))])
%% code
few, flat = above(planted(1, 6), **about("on mosaics")), above([0.2] * 12, **about("on digits"))
why = above(planted(2), core=False, **about("the reason that the document gives"))
report.claim("JU-4", [above(planted(0.3), **about("on photos")), few, flat, why])
%% code
edges = above(planted(-0.1), **about("mask > edge detector"))
gated = [above(planted(3), gate=edges, **about("accuracy: mask > gradient"))]
gated.append(share(38, 40, 0.5, gate=[edges, yes], **about("accuracy > one half")))
report.claim("JU-5", gated)
%% code
case = share(12, 40, 0.05, **about("share of wrong signs > 0.05"))
other = above(planted(-1), **about("another case"))
report.claim("JU-6", [case, other])
%% markdown
## Verdict
%% code remove-input
report.verdicts()
"""


def cells_of(text: str) -> list[tuple[str, ...]]:
    """Parse the notation above into (kind, source, *tags) rows."""
    rows = []
    for block in text.split("\n%% ")[1:]:
        head, _, source = block.partition("\n")
        kind, *tags = head.split()
        source = source.rstrip("\n")
        source = {"PARAMETERS": PARAMETERS, "FAULTS": FAULTS}.get(source, source)
        rows.append((kind, source, *tags))
    return rows


TEXTS = (SAMPLE_TEXT, QUICK_TEXT, ROWS_TEXT, JUDGED_TEXT)
SAMPLE, QUICK, WITH_ROWS, JUDGED = map(cells_of, TEXTS)


def notebook(cells) -> dict:
    """A notebook from (kind, source, *tags) rows."""
    made = []
    for number, (kind, source, *tags) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"c{number}", "metadata": {}, "source": source}
        if tags:
            cell["metadata"]["tags"] = tags
        if kind == "code":
            cell |= {"outputs": [], "execution_count": None}
        made.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def write_notebook(root: Path, slug: str, cells) -> None:
    path = root / "notebooks" / f"{slug}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook(cells)), encoding="utf-8")
    params = root / "params" / "default" / f"{slug}.yaml"
    params.parent.mkdir(parents=True, exist_ok=True)
    if not params.exists():
        params.write_text("steps: 5\n", encoding="utf-8")


def make_project(root: Path) -> Path:
    """Write a project with a rich and a quick notebook into an empty folder."""
    (root / "lib" / "core").mkdir(parents=True)
    (root / "lib" / "core" / "ledger.yaml").write_text(LEDGER, encoding="utf-8")
    (root / "requirements.txt").write_text("numpy\nmatplotlib==0\n", encoding="utf-8")
    write_notebook(root, "01-sample", SAMPLE)
    write_notebook(root, "02-brief", QUICK)
    return root


def make_judged(root: Path) -> Path:
    """A project whose one report judges claims by several parts: each has another verdict."""
    (root / "lib" / "core").mkdir(parents=True)
    (root / "lib" / "core" / "ledger.yaml").write_text(JUDGED_LEDGER, encoding="utf-8")
    write_notebook(root, "04-judged", JUDGED)
    return root


def environment() -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("REPORT_", "MAKE"))}
    return inherited | {"PYTHONPATH": str(ROOT)}


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "lib.builder", "--root", str(root), *map(str, arguments)]


def reports(
    root: Path, *arguments: str, timeout: int = 120, **environ: str
) -> subprocess.CompletedProcess:
    """Run the builder's command line on a project."""
    return subprocess.run(
        command(root, *arguments), cwd=root, env=environment() | environ,
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def start(root, *arguments):
    return subprocess.Popen(
        command(root, *arguments), cwd=root, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def kernel_of(root, builder, timeout=40):
    """Wait until a build's kernel is in its sleeping cell; return the kernel's process id."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for note in (root / ".cache/build").glob("*/results.json.pid"):
            if note.read_text():
                return int(note.read_text())
        time.sleep(0.05)
    builder.kill()
    raise TimeoutError("no kernel")


def shared(name: str, make: Callable[[Path], object]) -> Path:
    """A project that ``make`` fills in an empty folder, once for all tests. Do not change it."""
    root = Path(os.environ["TESTS_SHARE"], name)
    with FileLock(f"{root}.lock"):
        if not root.exists():
            aside = root.with_suffix(".part")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            make(aside)
            aside.rename(root)
    return root


def plain_project() -> Path:
    return shared("plain", make_project)


def built_project() -> Path:
    """One whose two reports are built."""
    return shared("built", lambda root: built(make_project(root), "01-sample", "02-brief"))


def judged_project() -> Path:
    return shared("judged", lambda root: built(make_judged(root), "04-judged"))


def built(root: Path, *arguments: str, **environ: str) -> None:
    done = reports(root, "build", *arguments, timeout=600, **environ)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def smoke_project() -> Path:
    """The notebooks and their parameters alone: nothing is written into the checkout."""

    def make(root: Path) -> None:
        for folder in ("notebooks", "params"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns(".*"))
        shutil.copy(ROOT / "tests/nbval.cfg", root)

    return shared("smoke", make)


def smoke_report(slug: str) -> Path:
    """The project of the smoke profile, where this report is built; what it kept serves others."""
    root = smoke_project()
    built(root, slug, "--profile", "smoke", "--no-index", **own_cache(root))
    return root


def own_cache(root: Path) -> dict[str, str]:
    return {"REPORT_PROGRESS": "off", "ATTRIBUTION_CACHE": str(root / ".cache")}


def copy_of_built(folder: Path) -> Path:
    """A copy of the built project that a test may change."""
    return copy(built_project(), folder)


def copy(project: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project, folder / "project"))


def forge(root: Path, slug: str, change, html=None) -> None:
    """Change a report's results (and page) and seal the pair again, as the builder would."""
    path, page = (root / "reports/default" / f"{slug}.{kind}" for kind in ("json", "html"))
    results = json.loads(path.read_text(encoding="utf-8"))
    change(results)
    if html:
        page.write_text(html(page.read_text(encoding="utf-8")), encoding="utf-8")
    path.write_text(sealed(results, page.read_text(encoding="utf-8")), encoding="utf-8")


def state(root: Path) -> dict[str, bytes]:
    """Every rendered file and its content."""
    return {p.name: p.read_bytes() for p in sorted((root / "reports").rglob("*")) if p.is_file()}


def leftovers(root: Path) -> list[Path]:
    """What a build may not leave behind."""
    return [*(root / ".cache" / "build").glob("*"), *(root / "reports").rglob("*.part")]
