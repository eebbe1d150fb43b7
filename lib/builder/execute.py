"""Run a notebook in a kernel of its own, and say exactly how it ended.

papermill puts the values in and nbclient runs the cells. papermill's own engine is not used: it
marks every cell `completed` after a timeout or a dead kernel, and takes `sys.exit(0)` for success.
Here every kind of failure is caught, and afterwards every code cell must carry a count.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.builder.console import Progress
from lib.builder.overrides import Run
from lib.builder.workspace import ANSI, CODE, ReportFailed

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
INJECTED = "injected-parameters"  # tag and id of the cell that sets the values given
LARGEST = 20_000_000  # characters that a notebook may put out: its page would hold all of them


@dataclass
class Executed:
    notebook: Any  # nbformat node with outputs
    results: dict[str, Any]  # what the notebook recorded
    warnings: list[str] = field(default_factory=list)


def kernel_environment(
    run: Run, folder: Path, threads: int, cache: Path | None = None, rows: Path | None = None
) -> dict[str, str]:
    """The kernel's environment: where to record, a fixed hash seed, the number of threads.

    Settings of the reader's own (start-up files, search paths, figure styles) would change numbers
    and pictures on this machine alone: they stay outside. Where packages are installed does not.
    """
    installed = ("PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE")
    outside = ("PYTHON", "IPYTHON", "JUPYTER", "MPLBACKEND")  # with Agg there would be no figures
    style = folder / "matplotlibrc"
    style.touch()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in installed or not name.startswith(outside)
    }
    environment |= {
        "REPORT_RESULTS": str(folder / "results.json"),
        "REPORT_PROGRESS": str(folder / "progress"),
        "REPORT_LEDGER": str(run.project.ledger),
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(CODE),
        "PYTHONUTF8": "1",
        "SOURCE_DATE_EPOCH": "0",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "MATPLOTLIBRC": str(style),
    }
    if cache:
        environment["ATTRIBUTION_CACHE"] = str(cache)
    if rows:
        environment["ROWS_KEPT"] = str(rows)
    return environment | dict.fromkeys(THREAD_VARIABLES, str(threads))


@contextlib.contextmanager
def _runtime_folder(folder: Path) -> Iterator[str]:
    """A short folder for the kernel's sockets: their paths may have about 107 bytes.

    Its name is left in the build folder, so that the next run can remove it after a kill -9.
    """
    runtime = tempfile.mkdtemp(prefix="rpt-", dir="/tmp" if os.path.isdir("/tmp") else None)
    (folder / "runtime").write_text(runtime)
    try:
        yield runtime
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def _prepared(run: Run) -> Any:
    """The notebook as it was read, without outputs, and with a cell that sets the values given."""
    import nbformat
    from papermill.parameterize import parameterize_notebook

    source = copy.deepcopy(run.notebook) | {"nbformat_minor": 5}  # the first with ids
    for index, cell in enumerate(source["cells"]):
        cell.setdefault("id", f"cell-{index}")
        cell.setdefault("metadata", {}).setdefault("tags", [])
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    notebook = nbformat.reads(json.dumps(source), as_version=4)
    try:
        nbformat.validate(notebook, relax_add_props=True)
    except nbformat.ValidationError as error:
        raise ReportFailed(f"not a valid notebook: {error.message}") from None
    if run.injected:
        notebook.metadata["papermill"] = {}
        notebook = parameterize_notebook(
            notebook, run.injected, kernel_name="python3", language="python"
        )
        del notebook.metadata["papermill"]
        next(c for c in notebook.cells if INJECTED in c.metadata.get("tags", []))["id"] = INJECTED
    return notebook


def _numbered(notebook: Any) -> Iterator[tuple[int, Any]]:
    """Each cell with its number, from 1, in the source: what papermill put in does not count."""
    number = 0
    for cell in notebook.cells:
        number += cell.id != INJECTED
        yield number, cell


def execute(
    run: Run,
    folder: Path,
    *,
    threads: int,
    timeout: float = 3600,
    cache: Path | None = None,
    rows: Path | None = None,
) -> Executed:
    """Execute one report's notebook.

    Args:
        folder: temporary, of this build alone.
        threads: of the kernel; another number rounds sums otherwise.
        timeout: seconds that a cell may run.
        cache: where the notebook keeps trainings and masks, instead of the usual place.
        rows: where an earlier run kept rows: a seeded tenth of them has to come out alike.

    Raises:
        ReportFailed: a cell raised, ran too long, ended the kernel or was never run.
        KeyboardInterrupt: the kernel is gone by then.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class Client(NotebookClient):
        room = LARGEST

        def output(self, outs, msg, display_id, cell_index):
            self.room -= len(str(msg["content"]))
            if self.room < 0:
                raise ReportFailed(f"the notebook puts out more than {LARGEST / 1e6:.0f} MB")
            return super().output(outs, msg, display_id, cell_index)

    for name in ("traitlets", "nbclient"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failures are ours to tell, once
    notebook = _prepared(run)
    number, cell = 0, None
    with (
        _runtime_folder(folder) as runtime,
        tempfile.TemporaryFile() as log,
        Progress(run.slug, folder / "progress") as progress,
    ):
        manager = AsyncKernelManager(
            kernel_name="python3",  # of this Python, not one of that name in the reader's folders
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            transport="ipc",
            connection_file=f"{runtime}/kernel.json",
        )
        client = Client(
            notebook,
            manager,
            timeout=timeout,
            startup_timeout=120,
            iopub_timeout=60,
            record_timing=False,
            force_raise_errors=True,
            shutdown_kernel="immediate",
        )
        launch = {
            "env": kernel_environment(run, folder, threads, cache, rows),
            "cwd": str(run.project.notebooks),
            # of what it says below Python: a daemon that it leaves would keep our own output open
            "stdout": log,
            "stderr": log,
        }
        try:
            with client.setup_kernel(cleanup_kc=True, **launch):
                about = client.wait_for_reply(client.kc.kernel_info())["content"]
                notebook.metadata["language_info"] = about["language_info"]  # colors the code
                for index, (number, cell) in enumerate(_numbered(notebook)):
                    progress.at(number, sum(c.id != INJECTED for c in notebook.cells))
                    client.execute_cell(cell, index)
        except Exception as error:  # whatever it is, this report has failed
            log.seek(0)
            said = log.read()[-4000:].decode(errors="replace")
            raise _failure(error, number, cell, timeout, said) from error
        finally:
            pid = getattr(manager.provisioner, "pid", None)
            if pid:  # the kernel leads its own process group: take its children along
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
    for number, cell in _numbered(notebook):
        skipped = "skip-execution" in cell.metadata.get("tags", []) or not cell.source.strip()
        if cell.cell_type == "code" and cell.execution_count is None and not skipped:
            raise ReportFailed("the cell was never run", cell=number, source=cell.source)
    results = {}
    if (folder / "results.json").exists():
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return Executed(notebook, results, _stderr(notebook))


def _failure(error: Exception, number: int, cell: Any, timeout: float, said: str) -> ReportFailed:
    """Turn nbclient's and the kernel's ways of failing into one."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    if isinstance(error, CellExecutionError):
        reason = f"{error.ename}: {error.evalue}".strip()
        if error.ename == "SystemExit":
            reason = "the cell ended the notebook (sys.exit)"
    elif isinstance(error, CellTimeoutError):
        reason = f"the cell ran longer than {timeout:g} s"
    elif isinstance(error, DeadKernelError):
        reason = "the kernel died (out of memory, or killed)"
    elif isinstance(error, ReportFailed):
        reason = error.reason
    else:
        reason = f"{type(error).__name__}: {error}".strip()
    errors = [o for o in (cell or {}).get("outputs", []) if o.output_type == "error"]
    traceback = "\n".join(line for output in errors for line in output.traceback) or said
    source = cell.source if cell else ""  # none: it never came to a cell
    return ReportFailed(reason, cell=number, source=source, traceback=traceback)


def _stderr(notebook: Any) -> list[str]:
    warnings = []
    for number, cell in _numbered(notebook):
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr" and output.text.strip():
                first = ANSI.sub("", output.text).strip().splitlines()[0]
                warnings.append(f"cell {number} wrote to stderr (not shown): {first[:160]}")
    return warnings
