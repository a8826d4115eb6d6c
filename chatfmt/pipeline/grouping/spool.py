"""Rows of one split, grouped by key on disk: SQLite sorts them in bounded memory."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ...scratch_folder import explained

_ROWS = 1 << 40
"""More than the rows of any file: the place of a row is its file times this, plus its number."""
_MEMORY_KIB = 64 << 10


class SpooledRow(NamedTuple):
    """The number of the file and of the row in it, and the row as text."""

    file: int
    row: int
    text: str


class Spool:
    """A temporary database of rows, each with its key and its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._explained():
            self._rows = sqlite3.connect(path, isolation_level=None)
            for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_MEMORY_KIB}", "temp_store=FILE"):
                self._rows.execute(f"PRAGMA {setting}")
            self._rows.execute("CREATE TABLE rows (key TEXT, place INTEGER, text TEXT)")
            self._rows.execute("BEGIN")

    def add(self, rows: Iterable[tuple[str, SpooledRow]]) -> None:
        """Add rows with their keys."""
        with self._explained():
            self._rows.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)", ((key, row.file * _ROWS + row.row, row.text) for key, row in rows)
            )

    def groups(self) -> Iterator[Iterator[SpooledRow]]:
        """Yield the rows of each key in the order of the files, keys in the order of their first rows."""
        with self._explained():
            found = self._rows.execute(
                "SELECT added, place, text FROM (SELECT rowid AS number, place, text, "
                "MIN(place) OVER (PARTITION BY key) AS first, MIN(rowid) OVER (PARTITION BY key) AS added FROM rows) "
                "ORDER BY first, added, place, number"  # rows that were one before `--explode` share their place
            )
            for _, rows in groupby(found, key=lambda row: row[0]):
                yield (SpooledRow(place // _ROWS, place % _ROWS, text) for _, place, text in rows)

    def close(self) -> None:
        """Remove the database."""
        self._rows.close()
        self._path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise the errors of SQLite, such as a full disk, as OutputError."""
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            with explained(self._path):
                raise OSError(errno.ENOSPC if full else None, str(error)) from error
