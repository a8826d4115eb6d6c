"""Report the progress of a run while tasks are running, not only when their shards are finished."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import Struct

from ...manifest import Shard
from ..conversion.job import RowRange, Task
from ..schedule import run_tasks

if TYPE_CHECKING:
    from ...recipe import Run
    from ...sources import InputSplit


class Reached(Struct, frozen=True):
    """The progress of a stage of a run; within a stage no number decreases."""

    rows: int = 0
    """Rows of the source that were read."""
    bytes: int = 0
    """The bytes that they take in memory."""
    rejected: int = 0
    """Rows that were rejected."""
    stage: str = "converting"
    """What is being done, as a heading of the display."""
    total: int | None = None
    """The rows of the stage, if they are others than those of the source."""


READING = "reading the source"
"""The stage of a command that reads and writes nothing, and of all before their first row."""

OnProgress = Callable[[Reached], None]


def ignore_progress(reached: Reached) -> None:
    """Do nothing, for a run whose progress is not shown."""


class Progress:
    """Add up the positions that tasks report."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._reached: dict[str, Reached] = {}
        self._whole = Reached()
        self._inputs: dict[str, ReadInputs] = {}

    def on_position(self, task: Task, position: object) -> None:
        """Count the rows of a task up to a position; a task that runs again counts only what is new."""
        if not isinstance(position, RowRange):
            return
        if task.name not in self._inputs:
            self._inputs[task.name] = ReadInputs(task.inputs)
        inputs = self._inputs[task.name]
        if inputs.reach(position):
            self._report(task.name, Reached(inputs.rows, position.bytes, position.rejected))

    def on_shard(self, shard: Shard) -> None:
        """Count all rows of a finished shard."""
        self._inputs.pop(shard.name, None)
        before = self._reached.get(shard.name, Reached())
        self._report(shard.name, Reached(shard.rows_in, before.bytes, shard.rejected))

    def _report(self, name: str, reached: Reached) -> None:
        before, whole = self._reached.get(name, Reached()), self._whole
        if reached.rows > before.rows:
            self._reached[name] = reached
            self._whole = Reached(
                whole.rows + reached.rows - before.rows,
                whole.bytes + reached.bytes - before.bytes,
                whole.rejected + reached.rejected - before.rejected,
            )
            self._on_progress(self._whole)


class ReadingTask(Protocol):
    """A task that reads inputs and writes nothing."""

    @property
    def inputs(self) -> tuple[InputSplit, ...]: ...


A = TypeVar("A", bound=ReadingTask)
R = TypeVar("R")


def run_reading_tasks(
    fn: Callable[[A], R], tasks: Sequence[A], run: Run, on_progress: OnProgress
) -> Generator[R, None, None]:
    """Yield `fn(task)` for each task, in order, and report how many rows are read."""
    read: dict[int, ReadInputs] = {}
    counts = [split.rows for task in tasks for split in task.inputs]
    total = None if None in counts else sum(count for count in counts if count is not None)

    def on_position(task: A, position: object) -> None:
        inputs = read.get(id(task)) or read.setdefault(id(task), ReadInputs(task.inputs))
        if isinstance(position, RowRange) and inputs.reach(position):
            on_progress(Reached(sum(each.rows for each in read.values()), stage=READING, total=total))

    yield from run_tasks(fn, tasks, run, on_position)


class ReadInputs:
    """The progress through the inputs of a task, which may be thousands of files."""

    def __init__(self, inputs: Sequence[InputSplit]) -> None:
        self.rows = 0
        self._inputs = inputs
        self._by_file: dict[str, list[int]] = {}
        self._rows_by_input: dict[int, int] = {}
        for number, split in enumerate(inputs):
            self._by_file.setdefault(split.shown, []).append(number)

    def reach(self, position: RowRange) -> bool:
        """Count the rows before a position; return False if it lies in none of the inputs."""
        number = next(
            (each for each in self._by_file.get(position.file, ()) if self._holds(each, position.first)), None
        )
        if number is None:
            return False
        rows = position.first - self._inputs[number].first_row
        self.rows += rows - self._rows_by_input.get(number, 0)
        self._rows_by_input[number] = rows
        return True

    def _holds(self, number: int, row: int) -> bool:
        split = self._inputs[number]
        return split.first_row <= row <= (float("inf") if split.rows is None else split.first_row + split.rows)
