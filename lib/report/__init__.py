"""What a notebook writes with: its lesson, figures, prose with numbers, claims and their verdicts.

A notebook imports `open_lesson`, `figures` and the makers of parts. Imports any room but the
builder.
"""

from lib.report.lesson import Lesson, open_lesson

__all__ = ["Lesson", "open_lesson"]
