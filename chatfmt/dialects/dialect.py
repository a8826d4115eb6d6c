"""What a dialect is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
from msgspec import Struct

from .kit.columns import Columns, Record

Fits = Callable[[Record, Columns], Mapping[str, str] | None]
"""The parts of one record, each with its column (or the key inside turns), None if the dialect cannot read it."""


class Dialect(Struct, frozen=True):
    """One way to spell a conversation: how it is converted, which records it fits, what it is in a few words.

    `parts` are the parts that `--map` can give it, beside system, tools, template_kwargs and documents. `kind` is the
    type of data set it makes. `covers` are the dialects whose rows it reads too. A dialect with `asked` set is never
    found by itself, since another one reads the same rows; `whole_file` asks for all rows of a file in one batch.
    """

    convert: Callable[[pa.RecordBatch, Columns], pa.RecordBatch]
    fits: Fits
    summary: str
    parts: frozenset[str] = frozenset({"messages"})
    kind: str = "language-modeling"
    covers: frozenset[str] = frozenset()
    asked: bool = False
    whole_file: bool = False

    @property
    def reads_text(self) -> bool:
        """Whether it reads, when it is asked for, what stays text in the dialects that it covers."""
        return self.asked and bool(self.covers)
