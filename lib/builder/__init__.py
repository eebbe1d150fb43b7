"""What runs a notebook and turns it into a report.

A notebook imports one name, `Report`, to record its results. The rest is the builder: run it with
`python -m lib.builder` or through the Makefile. Nothing here knows what an attribution is.
"""

from lib.report.record import Report

__all__ = ["Report"]
