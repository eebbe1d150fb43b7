"""Photos to rows: evidence that is computed once, anywhere, and resumed.

A protocol turns a chunk of photos into tidy rows; each chunk's rows are one Parquet file named by
the hash of everything they depend on. Imports evaluation and what is below it; report is above.
"""

from lib.rows.evidence import evidence
from lib.rows.executors import RowsError
from lib.rows.jobs import Job, run_jobs
from lib.rows.network import Network

__all__ = ["Job", "Network", "RowsError", "evidence", "run_jobs"]
