"""Rows for a stream, encoded where they are converted: in a process apart, so that a crash there is an error here."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from io import BytesIO

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ... import executors, writers
from ...errors import ChatfmtError
from ...manifest import Reject
from ...sources import InputSplit
from ..conversion.job import Job, RowRange
from ..conversion.row_counts import RowCounts
from ..conversion.task import output_batches, ready, to_reject


class Streaming(Struct, frozen=True):
    """A job, the input of each of its shards, and what the stream shall be."""

    job: Job
    shards: tuple[tuple[InputSplit, ...], ...]
    format: str
    compression: str | None
    suspect: RowRange | None = None
    """Where to go row by row, to find the one that ends the process."""

    def row_by_row(self, place: RowRange) -> Streaming:
        """The same stream, in pieces of one row where it ended the process."""
        return replace(self, suspect=place)


class Piece(Struct, frozen=True):
    """The next bytes of the stream, the rows refused since the last, and the counts so far."""

    data: bytes
    counts: RowCounts
    rejects: list[Reject] = field(default_factory=list)


def streamed(streaming: Streaming) -> Generator[Piece, None, None]:
    """The pieces of a stream, in order; raises what the conversion raises, after what came before it."""
    return executors.in_worker(_pieces, streaming)


def _pieces(streaming: Streaming) -> Iterator[Piece]:
    job, sink, counts, rejects = streaming.job, BytesIO(), RowCounts(), list[Reject]()
    conversion = ready(job)
    on_reject = (lambda error, raw: rejects.append(to_reject(error, raw))) if job.skip_bad else None
    encoder = writers.FORMATS[streaming.format](sink, pa.schema([]), streaming.compression, explicit_nulls=job.nulls)

    def piece() -> Piece:
        made = Piece(sink.getvalue(), counts, rejects.copy())
        sink.seek(0)
        sink.truncate()
        rejects.clear()
        return made

    try:
        for inputs in streaming.shards:
            for batch in output_batches(inputs, conversion, counts, on_reject, streaming.suspect):
                encoder.write(batch)
                yield piece()
    except ChatfmtError:
        yield piece()
        raise
    conversion.report(counts)
    encoder.close()
    yield piece()
