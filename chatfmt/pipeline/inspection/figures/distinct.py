"""Count repeated values by their hashes, exactly for a million of them and by a sample of the hashes for more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct, field

KEPT = 1 << 20
_Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]


class Repeats(Struct):
    """The hashes below a `limit` and how often each occurred; past `KEPT` of them the limit is halved."""

    hashes: _Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    counts: _Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    halvings: int = 0

    def add(self, digests: Sequence[bytes]) -> None:
        """Count values by digests of at least 8 bytes."""
        size = len(digests[0]) if digests else 8
        table = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, size)[:, :8]
        hashes = np.ascontiguousarray(table).view(np.uint64).ravel()
        self._join(hashes, np.ones(len(hashes), np.uint64))

    def merge(self, other: Repeats) -> None:
        """Count what another has counted."""
        self.halvings = max(self.halvings, other.halvings)
        self._join(other.hashes, other.counts)

    def _join(self, hashes: _Hashes, counts: _Hashes) -> None:
        hashes, counts = np.concatenate([self.hashes, hashes]), np.concatenate([self.counts, counts])
        order = np.argsort(hashes, kind="stable")
        hashes, counts = hashes[order], counts[order]
        firsts = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint64(1)) != 0)
        self.hashes = hashes[firsts]
        self.counts = np.add.reduceat(counts, firsts) if len(firsts) else counts
        self._cut()
        while len(self.hashes) > KEPT:
            self.halvings += 1
            self._cut()

    def _cut(self) -> None:
        if self.halvings:
            kept = self.hashes < np.uint64(1 << (64 - self.halvings))
            self.hashes, self.counts = self.hashes[kept], self.counts[kept]

    @property
    def is_exact(self) -> bool:
        return not self.halvings

    @property
    def repeated(self) -> int:
        """The number of values that an earlier one equals; an estimate if there are many."""
        return (int(self.counts.sum()) - len(self.hashes)) << self.halvings
