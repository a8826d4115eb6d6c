"""How many rows have been read, told while tasks are at work and not only when their shards are whole."""

from __future__ import annotations

from collections.abc import Callable

from ...manifest import Shard
from ..conversion.job import RowRange, Task

OnProgress = Callable[[int], None]
"""Called with the number of rows read so far; it never falls."""


class Progress:
    """Adds up what tasks say of their places."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress, self._total = on_progress, 0
        self._rows: dict[str, int] = {}
        self._pieces: dict[str, dict[int, int]] = {}

    def on_position(self, task: Task, place: object) -> None:
        """A task is at a place, as it told its executor; one that is done again begins anew."""
        if isinstance(place, RowRange) and (number := piece_of(task, place)) is not None:
            pieces = self._pieces.setdefault(task.name, {})
            pieces[number] = place.first - task.inputs[number].first_row
            self._tell(task.name, sum(pieces.values()))

    def ended(self, shard: Shard) -> None:
        """A shard is whole."""
        self._pieces.pop(shard.name, None)
        self._tell(shard.name, shard.rows_in)

    def _tell(self, name: str, rows: int) -> None:
        more = rows - self._rows.get(name, 0)
        if more > 0:
            self._rows[name] = rows
            self._total += more
            self._on_progress(self._total)


def piece_of(task: Task, place: RowRange) -> int | None:
    """Which input of the task the place is in."""
    for number, split in enumerate(task.inputs):
        stop = float("inf") if split.rows is None else split.first_row + split.rows
        if split.shown == place.file and split.first_row <= place.first <= stop:
            return number
    return None
