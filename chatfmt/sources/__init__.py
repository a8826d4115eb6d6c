"""SOURCE -> files by split -> input splits -> source batches.

`resolve` finds the files, `plan_splits` groups their records into shards, `read` yields the records of one input split
as Arrow batches, `sample` the first records of a source, `read_stream` those of stdin.
"""

from .bytes.remote_cache import KEPT, kept, url_of_kept
from .bytes.unchanged import file_identity, has_content
from .discovery.resolve import named_files, resolve
from .formats.columnar import to_source_batch
from .formats.rejects import rejected_row
from .formats.schemas import column_types
from .model import DEFAULTS, InputSplit, ParseOptions, Source, SourceFile
from .read import read
from .sample import column_problems, fingerprint, late_rows, no_records_error, sample
from .splitting.lines import LineFinder, line_finders, lines_named
from .splitting.planner import plan_splits
from .splitting.unpack import needs_unpacking, unpack_source
from .stream import read_stream
