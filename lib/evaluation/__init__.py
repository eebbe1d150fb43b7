"""How an explanation is judged: one protocol, one file, from maps or scores to tidy rows.

A protocol never computes an interval: that is the business of the report.
Imports attribution, copies, networks, data and core.
"""
