"""Read single rows with the first dialect that fits."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any

from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow

Reading = tuple[str, Mapping[str, str]]
"""The name of a dialect and the parts that it finds in a row."""


class RecordReader:
    """Tries dialects in order on one row after another.

    A dialect that rejects a row without reading any of its values rejects every row with the same keys and nulls, so
    it is not tried on those again.
    """

    def __init__(self, candidates: Mapping[str, Dialect], columns: Columns) -> None:
        self._candidates, self._columns = candidates, columns
        self._candidates_by_shape: dict[tuple[tuple[str, bool], ...], Mapping[str, Dialect]] = {}

    def __call__(self, record: SourceRow) -> Reading | None:
        """Return the first dialect that fits, with the parts; raises NoDialect if a part is ambiguous."""
        shape = tuple((key, value is None) for key, value in record.items())
        if shape not in self._candidates_by_shape:
            return self._first(record, shape)
        for name, dialect in self._candidates_by_shape[shape].items():
            parts = dialect.find_parts(record, self._columns)
            if parts is not None:
                return name, parts
        return None

    def _first(self, record: SourceRow, shape: tuple[tuple[str, bool], ...]) -> Reading | None:
        """Read the first row of a shape, and remember the dialects that need not be tried on such rows."""
        candidates, found, watched = dict(self._candidates), None, _WatchedRow(record)
        for name, dialect in self._candidates.items():
            watched.seen = False
            parts = dialect.find_parts(watched, self._columns)
            if parts is not None:
                found = name, parts
                break
            if not watched.seen:
                del candidates[name]
        self._candidates_by_shape[shape] = candidates
        return found


class _WatchedRow(dict[str, Any]):
    """A row that notes whether any of its values was read; keys and nulls do not count."""

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
