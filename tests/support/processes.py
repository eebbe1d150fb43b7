"""Waiting for the end of a process that is nobody's child here."""

import os
import select


def gone(pid: int, timeout: float = 30) -> bool:
    """Whether the process has ended, at the latest after ``timeout`` seconds."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], timeout)[0])
    finally:
        os.close(process)
