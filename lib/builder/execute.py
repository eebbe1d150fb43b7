"""Run a notebook through papermill in a folder of its own, and say exactly how it ended.

Success is never inferred from metadata: papermill marks every cell `completed` after a timeout or a
dead kernel, and `sys.exit(0)` in a cell raises nothing. So every kind of failure is caught, and
afterwards every code cell must carry an execution count.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.builder.console import Progress
from lib.builder.overrides import Run
from lib.builder.workspace import CODE

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class ReportFailed(Exception):
    """A report that could not be made: what happened, in which cell."""

    def __init__(self, reason: str, *, cell: int = 0, source: str = "", traceback: str = ""):
        super().__init__(reason)
        self.reason, self.cell, self.source = reason, cell, source
        self.traceback = _ANSI.sub("", traceback)


@dataclass
class Executed:
    notebook: Any  # nbformat node with outputs, free of papermill's volatile metadata
    results: dict[str, Any]  # what the notebook recorded
    warnings: list[str] = field(default_factory=list)


def kernel_environment(
    run: Run, folder: Path, threads: int, cache: Path | None = None
) -> dict[str, str]:
    """The kernel's environment: where to record, a fixed hash seed, the number of threads."""
    environment = dict(os.environ)
    environment.pop("MPLBACKEND", None)  # with Agg the inline backend is inactive: no figures
    environment |= {
        "REPORT_RESULTS": str(folder / "results.json"),
        "REPORT_PROGRESS": str(folder / "progress"),
        "REPORT_LEDGER": str(run.project.ledger),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")])),
    }
    if cache:
        environment["ATTRIBUTION_CACHE"] = str(cache)
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


def _engine(progress: Progress, environment: dict[str, str], position: list[int]):
    """A papermill engine that tells each cell, sets the environment and leaves no kernel."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Client(PapermillNotebookClient):
        pid: int | None = None

        def start_new_kernel_client(self):
            self.pid = getattr(self.km.provisioner, "pid", None)
            return super().start_new_kernel_client()

        def execute_cell(self, cell, index, **options):
            position[0] = index
            progress.at(cell_number(self.nb.cells, index), cell_number(self.nb.cells, None) - 1)
            return super().execute_cell(cell, index, **options)

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            options = {k: v for k, v in options.items() if k not in ("input_path",)}
            client = Client(
                nb_man,
                kernel_name=kernel_name,
                timeout=options["execution_timeout"],
                startup_timeout=options["start_timeout"],
                iopub_timeout=60,
                record_timing=False,
                shutdown_kernel="immediate",
                config=options["config"],
                log=logging.getLogger("papermill"),
            )
            try:
                client.execute(env=environment, cwd=os.getcwd())
            finally:
                if client.pid:  # the kernel leads its own process group: take its children along
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(client.pid, signal.SIGKILL)

    return Engine


def execute(
    run: Run,
    folder: Path,
    *,
    threads: int,
    timeout: float = 3600,
    cache: Path | None = None,
) -> Executed:
    """Execute one report's notebook in `folder` (temporary, on the report's file system).

    The kernel has `threads` threads: another number rounds sums otherwise. `cache` is where the
    notebook keeps trainings and masks, instead of the usual place.

    Raises:
        ReportFailed: a cell raised, ran too long, ended the kernel or was never run.
        KeyboardInterrupt: the kernel is gone by then.
    """
    import nbformat
    import papermill
    from papermill.engines import papermill_engines
    from traitlets.config import Config

    for name in ("papermill", "traitlets", "nbclient"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failures are ours to tell, once
    source = nbformat.read(run.project.notebook(run.slug), as_version=4)
    for cell in source.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    prepared, output = folder / "source.ipynb", folder / "executed.ipynb"
    nbformat.write(source, prepared)
    position = [0]
    failure: Exception | None = None
    with _runtime_folder(folder) as runtime, Progress(run.slug, folder / "progress") as progress:
        environment = kernel_environment(run, folder, threads, cache)
        kernel = {"transport": "ipc", "connection_file": f"{runtime}/kernel.json"}
        papermill_engines.register("reports", _engine(progress, environment, position))
        try:
            papermill.execute_notebook(
                str(prepared).replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
                str(output).replace("{", "{{").replace("}", "}}"),
                parameters=run.injected,
                engine_name="reports",
                kernel_name="python3",
                cwd=str(run.project.notebooks),
                execution_timeout=timeout,
                start_timeout=120,
                progress_bar=False,
                config=Config({"KernelManager": kernel}),
            )
        except Exception as error:  # whatever it is, this report has failed
            failure = error
    if failure is not None:
        raise _explain(failure, output, position[0], timeout) from failure
    notebook = clean(nbformat.read(output, as_version=4))
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        exits = any(output.output_type == "error" for output in cell.outputs)  # sys.exit(0)
        skipped = "skip-execution" in cell.metadata.get("tags", []) or not cell.source.strip()
        if exits or (cell.execution_count is None and not skipped):
            reason = "the cell ended the notebook (sys.exit)" if exits else "the cell was never run"
            number = cell_number(notebook.cells, index)
            raise ReportFailed(reason, cell=number, source=cell.source)
    results = {}
    if (folder / "results.json").exists():
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return Executed(notebook, results, _stderr(notebook))


def _explain(error: Exception, output: Path, index: int, timeout: float) -> ReportFailed:
    """Turn papermill's, nbclient's and the kernel's ways of failing into one."""
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    cells = nbformat.read(output, as_version=4).cells if output.exists() else []
    if isinstance(error, PapermillExecutionError):
        lines = "\n".join(error.traceback)
        return ReportFailed(
            f"{error.ename}: {error.evalue}".strip(),
            cell=cell_number(cells, error.cell_index),
            source=error.source,
            traceback=lines,
        )
    source = cells[index].source if index < len(cells) else ""
    if isinstance(error, CellTimeoutError):
        reason = f"the cell ran longer than {timeout:g} s"
    elif isinstance(error, DeadKernelError):
        reason = "the kernel died (out of memory, or killed)"
    else:
        reason = f"{type(error).__name__}: {error}".strip()
    return ReportFailed(reason, cell=cell_number(cells, index), source=source)


def cell_number(cells: list[Any], index: int | None) -> int:
    """A cell's number, from 1, in the source notebook: what papermill put in does not count."""
    added = {"injected-parameters", "papermill-error-cell-tag"}
    return 1 + sum(not added & set(cell.metadata.get("tags", [])) for cell in cells[:index])


def clean(notebook: Any) -> Any:
    """Drop what differs from run to run: papermill's paths and times, random ids."""
    notebook.metadata.pop("papermill", None)
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
        elif "id" not in cell:
            cell["id"] = f"cell-{index}"
    return notebook


def _stderr(notebook: Any) -> list[str]:
    warnings = []
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr" and output.text.strip():
                first = _ANSI.sub("", output.text).strip().splitlines()[0]
                number = cell_number(notebook.cells, index)
                warnings.append(f"cell {number} wrote to stderr (not shown): {first[:160]}")
    return warnings
