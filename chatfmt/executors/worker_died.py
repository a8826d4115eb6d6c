"""The exception for the death of a worker, and the error for a task that killed two."""

from __future__ import annotations

from typing import Any

from ..errors import ChatfmtError, InputError, OutputError


class WorkerDied(Exception):
    """A worker died; the message names the cause."""

    def __init__(self, how: str, *, is_crash: bool = False, position: object = None) -> None:
        super().__init__(how)
        self.is_crash = is_crash
        """Whether native code crashed; otherwise the worker was killed or exited."""
        self.position = position
        """The last position that the task reported."""

    @property
    def at(self) -> str:
        """The position for messages: `, at …`, or nothing."""
        return "" if self.position is None else f", at {self.position}"


def row_by_row(task: Any, position: object) -> Any:
    """Return the task that reports finer positions around `position`; the same task if there is none."""
    return task.row_by_row(position) if position is not None and hasattr(task, "row_by_row") else task


def lost_twice(died: WorkerDied, task: str = "") -> ChatfmtError:
    """Return the error for a task whose worker died twice."""
    if died.is_crash:
        return InputError(
            f"native code crashed twice{task and ' on '}{task}: {died}{died.at}",
            hint="its input may be damaged: check it with another tool, or exclude it",
            code="worker.lost",
        )
    return OutputError(
        f"two workers died{task and ' at '}{task}: {died}{died.at}",
        hint="use fewer `--workers`, then run again",
        code="worker.lost",
    )
