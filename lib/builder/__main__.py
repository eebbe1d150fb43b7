"""python -m lib.builder build | index | verify | compare | course: what the Makefile calls.

Exit codes: 0 done, 1 a report failed or changed or the disk did, 2 input that cannot be used, 130
interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path

from lib.builder.console import problem, say
from lib.builder.overrides import resolve_run
from lib.builder.workspace import CODE, CUSTOM, Project, ReportFailed, UsageError


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.builder", description=__doc__)
    parser.add_argument("--root", type=Path, default=CODE, help="the project's folder")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make reports that are not current")
    build.add_argument("names", nargs="+", help="07-pixel-removal or pixel-removal")
    build.add_argument("--profile", default="default", help="folder of params/ to start from")
    build.add_argument("--params", help="a YAML file whose values replace the profile's")
    build.add_argument("--set", help="values that replace all others: 'steps=50 noise=0.2'")
    build.add_argument("--value", action="append", default=[], help="one, raw: 'photo=my cat.jpg'")
    build.add_argument("--no-index", action="store_true", help="leave index.html as it is")
    build.add_argument("--force", action="store_true", help="make them even if they are current")
    build.add_argument("--timeout", type=float, default=3600, help="seconds that a cell may run")
    index = commands.add_parser("index", help="write reports/<profile>/index.html")
    index.add_argument("--profile", default="default")
    verify = commands.add_parser("verify", help="make reports again and compare every number")
    verify.add_argument("names", nargs="*", help="default: every report of the profile")
    verify.add_argument("--profile", default="default")
    verify.add_argument("--timeout", type=float, default=3600)
    verify.add_argument("--all", action="store_true", help="list the numbers that agree too")
    verify.add_argument("--part-of", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    compared = commands.add_parser("compare", help="two results, profiles or revisions, as a page")
    compared.add_argument("a", help="a results file, a folder of them, or REVISION:one of these")
    compared.add_argument("b")
    commands.add_parser("course", help="notebooks to hand out, slides and a site, in course/")
    return parser


def settings(given: argparse.Namespace) -> str | None:
    """SET, and what was given name by name, quoted: a file may have any name."""
    return " ".join([*map(shlex.quote, given.value), *filter(None, [given.set])]) or None


def build(project: Project, given: argparse.Namespace) -> int:
    """Make each named report; a failure does not stop the others. All input is checked first."""
    from lib.builder.build import make

    if given.timeout <= 0:
        raise UsageError("--timeout must be positive")
    runs = [
        resolve_run(project, name, given.profile, given.params, settings(given))
        for name in given.names
    ]
    status, touched = 0, any(project.failed(run.target, run.slug).exists() for run in runs)
    for run in runs:
        shown = os.path.relpath(project.html(run.target, run.slug))
        try:
            done = make(run, force=given.force, timeout=given.timeout)
        except ReportFailed as failure:
            where = f" (cell {failure.cell})" if failure.cell else ""
            page = project.failed(run.target, run.slug)
            say(f"{run.slug}  FAILED{where}: {failure.reason.splitlines()[0]}", sys.stderr)
            if page.exists():
                say(f"{run.slug}  see {os.path.relpath(page)}", sys.stderr)
                touched = True
            status = 1
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
            f"reports/{given.profile}/ is untouched.\n"
            f"Side by side: make compare A=reports/{given.profile} B=reports/{CUSTOM}"
        )
    return status


def index(project: Project, given: argparse.Namespace) -> int:
    from lib.builder.index import write_index

    if given.profile != CUSTOM:
        project.check_profile(given.profile)
    cards = write_index(project, given.profile)
    slugs = [] if given.profile == CUSTOM else project.slugs()
    if slugs and all(cards[slug].state == "current" for slug in slugs):
        profile = f" PROFILE={given.profile}" if given.profile != "default" else ""
        say(f"{len(slugs)} reports are current; make reports{profile} ANEW=1 runs them again")
    say(f"Open {os.path.relpath(project.folder(given.profile) / 'index.html')}")
    return 0


def verify(project: Project, given: argparse.Namespace) -> int:
    from lib.builder.verify import verify as run_verify

    options = {"timeout": given.timeout, "every": given.all, "part_of": given.part_of}
    return run_verify(project, given.profile, given.names, **options)


def compare(project: Project, given: argparse.Namespace) -> int:
    from lib.builder.contrast import write_comparison

    if not (given.a and given.b):
        raise UsageError("two sides are compared: make compare A=reports/default B=reports/custom")
    path, differ = write_comparison(project, given.a, given.b)
    say(f"{'they differ' if differ else 'they agree'}: {os.path.relpath(path)}")
    return int(differ)


def course(project: Project, given: argparse.Namespace) -> int:
    from lib.builder.course import write_course

    folder = project.root / "course"
    count = write_course(project, folder)
    say(f"{count} chapters; open {os.path.relpath(folder / 'index.html')}")
    return 0


def main(argv: list[str] | None = None) -> int:
    for name in ("stdin", "stdout", "stderr"):  # one that the caller closed, in this order
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    given = arguments().parse_args(argv)
    # jsonschema, which nbformat imports, would compile a grammar of addresses that nobody here
    # checks: more than a second for every report
    sys.modules.setdefault("rfc3987_syntax", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave nothing behind
    actions = [build, index, verify, compare, course]
    action = {action.__name__: action for action in actions}[given.command]
    try:
        if os.pathsep in str(CODE):
            raise UsageError(f"{CODE}: Python cannot import from a path with {os.pathsep!r} in it")
        return action(Project(given.root.resolve()), given)
    except UsageError as error:
        say(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        from lib.builder.build import replaced

        pages = [os.path.relpath(path) for path in replaced if path.suffix == ".html"]
        done = f"already made: {', '.join(pages)}" if pages else "nothing was changed"
        say(f"interrupted: {done}", sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left
        return 1
    except OSError as error:
        say(f"error: {problem(error)}", sys.stderr)
        return 1


if __name__ == "__main__":
    code = 1
    with contextlib.suppress(OSError):
        code = main()
        sys.stdout.flush()
    os._exit(code)  # no atexit hook may wait for a kernel or for a closed pipe
