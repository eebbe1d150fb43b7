"""python -m lib.rows list | clean REPORT | estimate PROFILE REPORT...: what the Makefile calls."""

import argparse
import sys

from lib.rows import RowsError, estimate, kept


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.rows", description=__doc__)
    parser.add_argument("command", choices=["list", "clean", "estimate"])
    parser.add_argument("name", nargs="?", default="", help="the report, or the profile")
    parser.add_argument("reports", nargs="*", help="those that have rows")
    parser.add_argument("--workers", type=int, default=16, help="threads on a cluster (16)")
    given = parser.parse_args(arguments)
    try:
        if given.command == "list":
            print(kept.table())
        elif given.command == "clean":
            print(f"{kept.clean(given.name) / 1e6:.1f} MB freed")
        else:
            print(estimate.table(given.name, given.reports, given.workers))
    except (RowsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, RowsError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
