"""Pick rows to show: the first, the longest, some at random, and some with each finding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash
from msgspec import Struct, field

from ....mapping.selection import shuffle_keys
from ....schema import ROW
from ....turn_columns import IntArray
from ...conversion.source_rows import find_row

if TYPE_CHECKING:
    from ..preview import PreviewRow

FIRST, LONGEST, RANDOM = "first", "longest", "random"
NUMBERS = {FIRST: 60, LONGEST: 40, RANDOM: 100}
"""The rows that are picked for each reason."""


class Pick(Struct):
    """A row of the source that is shown, a batch of one; `why` names the reasons."""

    file: str
    number: int
    row: pa.RecordBatch
    why: tuple[str, ...]
    rank: float
    """Lower ranks are kept."""


class Picks(Struct):
    """The picked rows by reason, and those that are ready to show: rejected ones, and rows read together."""

    seed: int
    seen: int = 0
    """The rows that were picked from."""
    rows: dict[str, list[Pick]] = field(default_factory=dict)
    ready: list[PreviewRow] = field(default_factory=list)

    def add(self, file: str, source: pa.RecordBatch, numbers: IntArray, lengths: IntArray) -> None:
        """Pick from converted rows, by their numbers in the file and the lengths of their conversations."""
        random = self._random(file, numbers)
        first = np.arange(self.seen, self.seen + len(numbers))
        for why, ranks in ((FIRST, first), (LONGEST, -lengths.astype(np.float64)), (RANDOM, random)):
            self.take(why, file, source, numbers, ranks, NUMBERS[why])
        self.seen += len(numbers)

    def sample(self, file: str, source: pa.RecordBatch, most: int) -> None:
        """Pick up to `most` rows at random from all that are given."""
        numbers = np.asarray(source.column(ROW), np.int64)
        self.take(RANDOM, file, source, numbers, self._random(file, numbers), most)

    def _random(self, file: str, numbers: IntArray) -> Any:
        """Return a random rank for each row of a file, the same in every run."""
        return shuffle_keys(numbers, self.seed ^ xxhash.xxh3_64_intdigest(file.encode())).astype(np.float64)

    def take(self, why: str, file: str, source: pa.RecordBatch, numbers: IntArray, ranks: Any, most: int) -> None:
        """Keep the rows with the lowest ranks, at most so many."""
        have = self.rows.setdefault(why, [])
        limit = have[-1].rank if len(have) >= most else np.inf
        some = np.flatnonzero(ranks < limit)
        for index in some[np.argsort(ranks[some], kind="stable")][:most].tolist():
            self.pick(why, file, source, int(numbers[index]), float(ranks[index]))
        self.rows[why] = sorted(self.rows[why], key=lambda pick: pick.rank)[:most]

    def pick(self, why: str, file: str, source: pa.RecordBatch, number: int, rank: float = 0.0) -> None:
        """Pick one row of a source batch for a reason."""
        index = find_row(number, source)
        if index >= 0:
            row = source.take(pa.array([index]))  # a slice would keep the whole batch in memory
            self.rows.setdefault(why, []).append(Pick(file, number, row, (why,), rank))

    def merge(self, other: Picks) -> None:
        """Keep the best of both; the rows of `other` come later in the source."""
        for why, picks in other.rows.items():
            for pick in picks:
                pick.rank += self.seen if why == FIRST else 0
            both = [*self.rows.get(why, ()), *picks]
            self.rows[why] = sorted(both, key=lambda pick: pick.rank)[: NUMBERS.get(why, 3)]
        self.seen += other.seen
        self.ready = [*self.ready, *other.ready]

    def distinct(self) -> Iterator[Pick]:
        """Yield each picked row once, in order of file and row, with all its reasons."""
        found: dict[tuple[str, int], Pick] = {}
        for why in (*NUMBERS, *(why for why in self.rows if why not in NUMBERS)):
            for pick in self.rows.get(why, ()):
                key = (pick.file, pick.number)
                before = found[key].why if key in found else ()
                found[key] = Pick(*key, pick.row, tuple(dict.fromkeys((*before, why))), 0)
        yield from sorted(found.values(), key=lambda pick: (pick.file, pick.number))
