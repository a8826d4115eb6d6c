"""SOURCE -> files by split -> input splits -> source batches.

`resolve` finds the files, `plan_splits` cuts them into shards, `read` gives the records of one piece as Arrow batches,
`sample` the first few of a source, `read_stream` those of stdin.
"""

from .discovery.resolve import resolve
from .model import DEFAULTS, Bytes, InputSplit, ParseOptions, RowGroups, Source, SourceFile, Whole
from .read import read
from .sample import fingerprint, no_records, sample
from .splitting.planner import plan_splits
from .splitting.unpack import needs_spool, spool, spooled
from .stream import read_stream

__all__ = [
    "DEFAULTS", "Bytes", "InputSplit", "ParseOptions", "RowGroups", "Source", "SourceFile", "Whole", "fingerprint",
    "needs_spool", "no_records", "plan_splits", "read", "read_stream", "resolve", "sample", "spool", "spooled",
]  # fmt: skip
