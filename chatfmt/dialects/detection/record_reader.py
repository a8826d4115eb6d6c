"""How single records are read: by the first dialect that fits."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any

from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow

Reading = tuple[str, Mapping[str, str]]
"""The name of a dialect, and the parts that it finds in a record."""


class RecordReader:
    """Reads records, trying the dialects in their order.

    A dialect that has declined a record without seeing any value of it declines every record that has the same keys
    and the same nulls, and is not asked about those again.
    """

    def __init__(self, candidates: Mapping[str, Dialect], columns: Columns) -> None:
        self._candidates, self._columns = candidates, columns
        self._left: dict[tuple[tuple[str, bool], ...], Mapping[str, Dialect]] = {}

    def __call__(self, record: SourceRow) -> Reading | None:
        """The first dialect that fits, with the parts; raises NoDialect where two columns could be one part."""
        shape = tuple((key, value is None) for key, value in record.items())
        if shape not in self._left:
            return self._first(record, shape)
        for name, dialect in self._left[shape].items():
            parts = dialect.find_parts(record, self._columns)
            if parts is not None:
                return name, parts
        return None

    def _first(self, record: SourceRow, shape: tuple[tuple[str, bool], ...]) -> Reading | None:
        """Read the first record of its shape, and learn which dialects such records need not be shown to."""
        left, found, watched = dict(self._candidates), None, _Watched(record)
        for name, dialect in self._candidates.items():
            watched.seen = False
            parts = dialect.find_parts(watched, self._columns)
            if parts is not None:
                found = name, parts
                break
            if not watched.seen:
                del left[name]
        self._left[shape] = left
        return found


class _Watched(dict[str, Any]):
    """A record that notes whether any of its values was seen; null shows nothing, and so does a key."""

    seen = False

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        self.seen = self.seen or value is not None
        return value

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:  # so that `dict(record)` and `{**record}` ask for each value as well
        return super().__iter__()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self.seen = True
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self.seen = True
        return super().values()
