"""Count what happens to every row of a conversion, and what is changed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from ...errors import ChatfmtError
from ...manifest import Shard


class RowCounts(Struct):
    """Counts that must balance: `read + added = written + rejected + filtered + duplicates + merged`.

    `added` are the rows that a step creates from others (an exploded list, a split conversation), `merged` those that
    become part of another (the messages of a tree).
    """

    read: int = 0
    added: int = 0
    written: int = 0
    rejected: int = 0
    filtered: int = 0
    duplicates: int = 0
    merged: int = 0
    bytes: int = 0
    """The bytes in memory of the rows that were read, for the progress."""
    changes: Counter[str] = field(default_factory=Counter)
    """The turns or rows that each transform changed."""
    findings: Counter[str] = field(default_factory=Counter)
    """The rows in which each check found something."""
    engine: Counter[str] = field(default_factory=Counter)
    """The rows that each way of rendering took, and the reasons for the slow ones."""
    left_out: Counter[str] = field(default_factory=Counter)
    """The content that the template left out of rows, by design or as allowed; a set, not a count of rows."""
    left_column: Counter[str] = field(default_factory=Counter)
    """The leaves of unused columns that are left behind, each with its type; a set, not a count of rows."""
    left_key: Counter[str] = field(default_factory=Counter)
    """The same for leaves inside used columns."""
    packed: Counter[str] = field(default_factory=Counter)
    """The `conversations` that were packed, their `tokens`, and how many tokens the packed rows have `room` for."""
    reasons: Counter[str] = field(default_factory=Counter)
    """The rows that were rejected, by reason code."""

    def step(self, before: int, after: int) -> None:
        """Count a step that turned `before` rows into `after`."""
        self.added += max(0, after - before)
        self.merged += max(0, before - after)

    def add(self, other: RowCounts) -> None:
        for name, value in asdict(other).items():
            if value and isinstance(value, Counter):
                getattr(self, name).update(value)
            elif value:
                setattr(self, name, getattr(self, name) + value)

    def check_balance(self) -> None:
        """Raise ChatfmtError if a row is unaccounted for, which is a bug in chatfmt."""
        left = self.read + self.added
        right = self.written + self.rejected + self.filtered + self.duplicates + self.merged
        if left != right:
            message = f"the row counts do not balance: {left} rows in, {right} accounted for"
            hint = "this is a bug in chatfmt: please report it with the command"
            raise ChatfmtError(message, code="row.counts", hint=hint)

    def reject(self, codes: Sequence[str]) -> None:
        """Count rows that were read and left out, each by its code."""
        self.read += len(codes)
        self.rejected += len(codes)
        self.reasons.update(codes)

    def to_shard(self) -> dict[str, Any]:
        """Return the fields of a Shard that these counts fill; counters as `change.NAME`, `finding.CODE`, …"""
        counters = {
            "change": self.changes,
            "finding": self.findings,
            "engine": self.engine,
            "left_out": self.left_out,
            "left_column": self.left_column,
            "left_key": self.left_key,
            "packed": self.packed,
            "reject": self.reasons,
        }
        counts = {f"{kind}.{name}": n for kind, found in counters.items() for name, n in sorted(found.items())}
        numbers = {name: value for name, value in asdict(self).items() if not isinstance(value, Counter)}
        del numbers["bytes"]
        return {"rows_in": numbers.pop("read"), "rows": numbers.pop("written"), **numbers, "counts": counts}


def sum_counters(shards: Iterable[Shard], kind: str) -> dict[str, int]:
    """Sum the counters of one kind, as named in `RowCounts.to_shard`, over the shards."""
    sums: Counter[str] = Counter()
    for shard in shards:
        sums.update(
            {name.removeprefix(kind + "."): n for name, n in shard.counts.items() if name.startswith(kind + ".")}
        )
    return dict(sorted(sums.items()))
