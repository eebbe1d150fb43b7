"""``python -m benchmarks [topic ...] [--repeats 5]``: print a table, write benchmarks/results.json.

Everything is measured in this run on this machine: read the ratios, not the seconds.
"""

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
from pathlib import Path

import benchmarks
from benchmarks import memory
from benchmarks.timing import measure

OUTPUT = Path(__file__).with_name("results.json")
NOT_TOPICS = {"__main__", "timing", "setting", "rivals", "memory"}


def topics() -> list[str]:
    found = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
    return [*sorted(found - NOT_TOPICS), "memory"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", help=f"of {topics()}; default all")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each (default 5)")
    given = parser.parse_args(arguments)
    os.environ["REPORT_PROGRESS"] = "off"
    results = []
    for topic in given.topics or topics():
        if topic == "memory":
            results.append(memory.measure())
            _print(results[-1])
            continue
        for row in importlib.import_module(f"benchmarks.{topic}").rows():
            results.append(measure(row, given.repeats))
            _print(results[-1])
    if not given.topics:
        OUTPUT.write_text(json.dumps({"machine": _machine(), "rows": results}, indent=1) + "\n")
        print(f"written: {OUTPUT.relative_to(Path.cwd())}")
    missed = [check for row in results for check in row["checks"] if check["reached"] is False]
    print(f"{len(missed)} ratios miss their target" if missed else "every target is reached")
    return 0


def _print(result: dict) -> None:
    print(result["name"])
    for name, value in result.get("seconds", {}).items():
        print(f"    {name:<24}{value * 1000:>10.1f} ms")
    for name, value in result.get("megabytes", {}).items():
        print(f"    {name:<24}{value:>10.0f} MiB")
    for check in result["checks"]:
        target = f"({check['kind']} {check['target']:g})" if check["target"] else ""
        mark = {True: "reached", False: "MISSED", None: ""}[check["reached"]]
        print(f"    {check['ratio']:<24}{check['value']:>10.2f}    {target} {mark}")
    sys.stdout.flush()


def _machine() -> dict:
    import torch

    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


if __name__ == "__main__":
    sys.exit(main())
