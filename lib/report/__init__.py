"""What a notebook writes with: claims, figures, tables, and the record of its numbers.

A notebook imports one name, `Report`, to record its results. Imports any room but the builder.
"""

from lib.report.record import Report

__all__ = ["Report"]
