"""python -m lib.builder build | index | verify: what the Makefile calls.

Exit codes: 0 done, 1 a report failed or changed, 2 input that cannot be used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from lib.builder.console import say
from lib.builder.overrides import resolve_run
from lib.builder.workspace import CODE, CUSTOM, Project, UsageError


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.builder", description=__doc__)
    parser.add_argument("--root", type=Path, default=CODE, help="the project's folder")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make reports that are not current")
    build.add_argument("names", nargs="+", help="07-pixel-removal or pixel-removal")
    build.add_argument("--profile", default="default", help="folder of params/ to start from")
    build.add_argument("--params", help="a YAML file whose values replace the profile's")
    build.add_argument("--set", help="values that replace all others: 'steps=50 noise=0.2'")
    build.add_argument("--no-index", action="store_true", help="leave index.html as it is")
    build.add_argument("--force", action="store_true", help="make them even if they are current")
    build.add_argument("--timeout", type=float, default=3600, help="seconds that a cell may run")
    build.add_argument("--threads", type=int, help="threads of a kernel (default: cores / jobs)")
    index = commands.add_parser("index", help="write reports/<profile>/index.html")
    index.add_argument("--profile", default="default")
    verify = commands.add_parser("verify", help="make reports again and compare every number")
    verify.add_argument("names", nargs="*", help="default: every report of the profile")
    verify.add_argument("--profile", default="default")
    verify.add_argument("--timeout", type=float, default=3600)
    verify.add_argument("--all", action="store_true", help="list the numbers that agree too")
    verify.add_argument("--part-of", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    commands.add_parser("list", help="names of the notebooks")
    return parser


def build(project: Project, given: argparse.Namespace) -> int:
    """Make each named report; a failure does not stop the others. All input is checked first."""
    from lib.builder.build import make

    if given.timeout <= 0 or (given.threads is not None and given.threads < 1):
        raise UsageError("--timeout and --threads must be positive")
    runs = [
        resolve_run(project, name, given.profile, given.params, given.set) for name in given.names
    ]
    status, touched = 0, False
    for run in runs:
        shown = os.path.relpath(project.html(run.target, run.slug))
        try:
            done = make(run, force=given.force, timeout=given.timeout, threads=given.threads)
        except Exception as failure:
            from lib.builder.execute import ReportFailed

            if not isinstance(failure, ReportFailed):
                raise
            where = f" (cell {failure.cell})" if failure.cell else ""
            page = os.path.relpath(project.failed(run.target, run.slug))
            say(f"{run.slug}  FAILED{where}: {failure.reason.splitlines()[0]}", sys.stderr)
            say(f"{run.slug}  see {page}", sys.stderr)
            status, touched = 1, True
            continue
        touched = touched or done == "built"
        say(f"{run.slug}  {'is current' if done == 'current' else 'done'}: {shown}")
    target = runs[0].target
    if not given.no_index and (touched or not (project.folder(target) / "index.html").exists()):
        from lib.builder.index import write_index

        write_index(project, target)
    if target == CUSTOM:
        say(
            f"These are not the parameters of the profile {given.profile!r}: "
            f"see {os.path.relpath(project.folder(CUSTOM))}/; "
            f"reports/{given.profile}/ is untouched."
        )
    return status


def index(project: Project, given: argparse.Namespace) -> int:
    from lib.builder.index import write_index

    if given.profile != CUSTOM:
        project.check_profile(given.profile)
    say(f"Open {os.path.relpath(write_index(project, given.profile))}")
    return 0


def verify(project: Project, given: argparse.Namespace) -> int:
    from lib.builder.verify import verify as run_verify

    options = {"timeout": given.timeout, "every": given.all, "part_of": given.part_of}
    return run_verify(project, given.profile, given.names, **options)


def list_names(project: Project, given: argparse.Namespace) -> int:
    for slug in project.slugs():
        say(slug)
    return 0


def main(argv: list[str] | None = None) -> int:
    given = arguments().parse_args(argv)
    # jsonschema, which nbformat imports, would compile a grammar of addresses that nobody here
    # checks: more than a second for every report
    sys.modules.setdefault("rfc3987_syntax", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave nothing behind
    action = {"build": build, "index": index, "verify": verify, "list": list_names}[given.command]
    try:
        return action(Project(given.root.resolve()), given)
    except UsageError as error:
        say(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("interrupted: nothing was changed", sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code) if code == 130 else sys.exit(code)  # no atexit hook may wait for a kernel
