"""python -m lib.rows list | adopt | clean REPORT | estimate PROFILE: what the Makefile calls."""

import argparse
import os
import sys

from lib.rows import kept
from lib.rows.executors import RowsError


def adopt() -> None:
    """Repeat every call of ``evidence`` that a report has made, trying the rows of other code."""
    from lib.rows.evidence import evidence

    os.environ["ADOPT"] = "1"
    for manifest in kept.manifests().values():
        call = kept.call_of(manifest)
        print(call["report"], evidence(**call).attrs["rows"], flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.rows", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what is kept, by report")
    commands.add_parser("adopt", help="try the rows that other code gave")
    clean = commands.add_parser("clean", help="remove the rows that only this report uses")
    clean.add_argument("report")
    cost = commands.add_parser("estimate", help="what a profile's rows would cost")
    cost.add_argument("profile")
    cost.add_argument("--workers", type=int, default=16, help="threads on a cluster (default 16)")
    cost.add_argument("--photos", type=int, help="as if there were so many photos")
    given = parser.parse_args(arguments)
    try:
        if given.command == "adopt":
            adopt()
        elif given.command == "clean":
            print(f"{kept.clean(given.report) / 1e6:.1f} MB freed")
        elif given.command == "list":
            print(kept.table())
        else:
            from lib.rows.estimate import table

            print(table(given.profile, given.workers, given.photos))
    except (RowsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, RowsError) and given.command != "adopt" else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
