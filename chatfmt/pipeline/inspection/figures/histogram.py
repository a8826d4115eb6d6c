"""Lengths counted one by one: percentiles, means and bins of any number of them in a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec import Struct, field

from ....turn_columns import IntArray

EXACT = 1 << 17
"""Lengths below are counted exactly; longer ones in steps of less than 0.1 %."""
_STEPS = 10
PERCENTILES = (10, 50, 90, 95, 99)
STATISTICS = ("min", "mean", *(f"p{percent}" for percent in PERCENTILES), "max")
_SKEWED = 8
"""Where the longest is this many times the median, bins grow with the length."""


def share(part: float) -> str:
    """Return a share as a percentage; a small one does not look like zero."""
    return "<0.1%" if 0 < part < 0.0005 else f"{part:.1%}"


class Bin(Struct, frozen=True):
    """The `count` of lengths in [start, stop)."""

    start: int
    stop: int
    count: int


class Histogram(Struct):
    """The number of times that each length occurs."""

    counts: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    total: int = 0
    """The sum of all lengths."""
    smallest: int = 0
    largest: int = 0

    @property
    def count(self) -> int:
        """The number of lengths."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def add(self, lengths: IntArray) -> None:
        """Count lengths of 0 and more."""
        if not len(lengths):
            return
        least, most = int(lengths.min()), int(lengths.max())
        self._merge(np.bincount(_places(lengths)), int(lengths.sum()), least, most)

    def merge(self, other: Histogram) -> None:
        """Count what another histogram has counted."""
        if len(other.counts):
            self._merge(other.counts, other.total, other.smallest, other.largest)

    def _merge(self, counts: IntArray, total: int, least: int, most: int) -> None:
        self.smallest = min(self.smallest, least) if len(self.counts) else least
        self.largest, self.total = max(self.largest, most), self.total + total
        longer, shorter = sorted((self.counts, counts), key=len, reverse=True)
        self.counts = longer.copy()
        self.counts[: len(shorter)] += shorter

    def percentile(self, percent: float) -> int:
        """Return the smallest length that at least this percentage of the lengths does not exceed."""
        place = int(np.searchsorted(np.cumsum(self.counts), max(1, np.ceil(self.count * percent / 100))))
        return min(_length(place), self.largest)

    def above(self, limit: int) -> int:
        """Return how many lengths are greater than `limit`."""
        return int(self.counts[int(_places(np.array([limit]))[0]) + 1 :].sum())

    def bins(self, number: int) -> list[Bin]:
        """Return at most `number` bins from the smallest to the largest: of equal width, or growing if few are long."""
        first, after = self.smallest, self.largest + 1
        wide = self.is_skewed
        edges = np.geomspace(first + 1, after + 1, number + 1) - 1 if wide else np.linspace(first, after, number + 1)
        cuts = sorted({first, *(int(edge) for edge in np.ceil(edges[1:-1])), after})
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        places = _places(np.array(cuts)).clip(0, len(self.counts))
        below = ends[places]
        below[-1] = ends[-1]
        return [Bin(cuts[i], cuts[i + 1], int(below[i + 1] - below[i])) for i in range(len(cuts) - 1)]

    @property
    def is_skewed(self) -> bool:
        """Whether a few lengths are much longer than the usual one."""
        return self.largest > _SKEWED * max(1, self.percentile(50))

    def statistics(self) -> Iterator[tuple[str, float]]:
        """Yield each of the STATISTICS by name; nothing without lengths."""
        if self.count:
            percentiles = map(self.percentile, PERCENTILES)
            yield from zip(STATISTICS, (self.smallest, round(self.mean, 1), *percentiles, self.largest), strict=True)

    def to_json(self) -> dict[str, Any]:
        """Return the statistics and 24 bins as plain data."""
        return {**dict(self.statistics()), "bins": [[one.start, one.stop, one.count] for one in self.bins(24)]}


LENGTHS = ("turns", "characters", "tokens")
"""The lengths of a conversation that are counted; its tokens are those of the rendered texts of each row."""


def histograms() -> dict[str, Histogram]:
    """Return an empty histogram for each of the LENGTHS."""
    return {name: Histogram() for name in LENGTHS}


def _places(lengths: IntArray) -> IntArray:
    """The place of each length in the counts: itself, or past `EXACT` 1024 places for each power of two."""
    lengths = np.asarray(lengths, np.int64)
    if not len(lengths) or lengths.max() < EXACT:
        return lengths
    power = np.frexp(np.maximum(lengths, EXACT))[1].astype(np.int64) - 1
    steps = (np.maximum(lengths, EXACT) >> (power - _STEPS)) - (1 << _STEPS)
    return np.where(lengths < EXACT, lengths, EXACT + ((power - 17) << _STEPS) + steps)


def _length(place: int) -> int:
    """Return the largest length of a place."""
    if place < EXACT:
        return place
    power, step = divmod(place - EXACT, 1 << _STEPS)
    return (((1 << _STEPS) + step + 1) << (power + 17 - _STEPS)) - 1
