"""The rows of a batch on their way through the stages of a conversion."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ...json_columns import booleans, with_own_types
from ...schema import ROW
from .row_counts import RowCounts


class Stage(Struct, frozen=True):
    """A step on a batch. Its errors index rows of its input, whose column `rows` has their numbers in the file."""

    rows: str
    run: Callable[[pa.RecordBatch, RowCounts], pa.RecordBatch]


class StagedRows(Struct):
    """Rows of a source batch on their way through the stages: what those that are done made of them and counted."""

    source: pa.RecordBatch
    batch: pa.RecordBatch
    counts: RowCounts
    done: int = 0

    @classmethod
    def start(cls, source: pa.RecordBatch) -> StagedRows:
        """Return the rows before the first stage."""
        return cls(source, source, RowCounts(read=len(source)))

    def cut(self, stop: int, start: int) -> list[StagedRows]:
        """Return the rows from `start` on and those before `stop`, each before the first stage; none without rows."""
        parts = self.source.slice(start), self.source.slice(0, stop)
        return [StagedRows.start(with_own_types(part)) for part in parts if len(part)]

    def without(self, bad: Collection[int]) -> StagedRows:
        """Return the other rows, which go on from here.

        They start again if a row became none or several, or if something was counted: how much of it the bad rows make
        up is not known.
        """
        keep = np.ones(len(self.source), np.bool_)
        keep[[*bad]] = False
        kept, rows = booleans(keep), ROW if ROW in self.batch.schema.names else "row"
        others = StagedRows.start(with_own_types(self.source.filter(kept)))
        is_same = self.counts == RowCounts(read=len(keep)) and self.batch.column(rows).equals(self.source.column(ROW))
        if not is_same or rows == ROW:  # a row that its dialect refuses was not to be read beside the others
            return others
        return replace(others, batch=self.batch.filter(kept), done=self.done)
