"""What a notebook writes with: claims, figures, tables, and the record of its numbers.

Imports any room but the builder, which runs notebooks and is never imported by one.
"""

from lib.report.record import Report

__all__ = ["Report"]
