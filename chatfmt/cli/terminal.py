"""Output to a terminal: reports on stdout, messages and progress on stderr, tables.

Data files keep every character. In messages and reports control, bidi, zero-width and unassigned characters become
`\\xNN` or `\\uNNNN`: a terminal would obey them, and rich does not remove them (it passes on ESC, OSC and C1).
"""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import ChatfmtError, OutputError, ReaderGone

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str, *, lines: bool = False) -> str:
    """Return the text with characters that a terminal obeys or hides escaped; `lines` keeps newlines and tabs."""
    kept = "\n\t" if lines else ""
    return "".join(c if c in kept or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if character in named:
        return named[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, as in `1 row` and `2,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def print_err(text: str) -> None:
    """Print a line to stderr, made visible, above any progress bar; do nothing if stderr is closed."""
    line = visible(text, lines=True)
    try:
        if _drawing:
            _drawing[-1].console.print(line, soft_wrap=True)
            return
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, AttributeError, ValueError):
        pass


def print_note(note: str) -> None:
    """Print `note: …` to stderr."""
    print_err(f"note: {note}")


def print_error(error: ChatfmtError) -> None:
    """Print `error: …` and, if there is a hint, `hint: …` to stderr."""
    print_err(f"error: {visible(str(error))}")
    if error.hint:
        print_err(f"hint: {visible(error.hint)}")


@contextmanager
def warnings_printed() -> Iterator[None]:
    """Print to stderr what chatfmt logs inside the block."""
    import logging

    class PrintHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print_err(record.getMessage())

    log, handler = logging.getLogger("chatfmt"), PrintHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def print_out(text: str) -> None:
    """Print a report, already visible, to stdout. Raises OutputError if stdout is closed, ReaderGone if its pipe is."""
    check_stdout()
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # Click would end the process with exit code 1
        raise ReaderGone from None


def print_json(value: object) -> None:
    """Print a report as one line of JSON to stdout."""
    print_out(json.dumps(value, ensure_ascii=False))


def check_stdout() -> None:
    """Raise OutputError if the process has no stdout."""
    if sys.stdout is None:
        raise OutputError("stdout is closed", hint="redirect it, as in `> report.txt`", code="output.closed")


def console(*, stderr: bool = False) -> Console:
    """Return a console for a stream; colour follows `NO_COLOR`, `FORCE_COLOR` and the terminal; width 100 in a pipe."""
    from rich.console import Console

    if not stderr:
        check_stdout()
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream is not None and stream.isatty() else 100
    made = Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
    made.on_broken_pipe = _reader_gone  # type: ignore[method-assign]  # rich's own ends the process with exit code 1
    return made


def _reader_gone() -> None:
    raise ReaderGone


def table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = (), whole: Sequence[int] = ()
) -> Table:
    """Return a table of untrusted cells; columns in `right` are right-aligned, those in `whole` are never folded."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(titles):
        made.add_column(
            Text(title), justify="right" if place in right else "left", overflow="fold", no_wrap=place in whole
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row))
    return made


def aligned(rows: Sequence[Sequence[str]], *, cut: int, width: int = 80) -> str:
    """Return one line per row, columns two spaces apart, within `width`: `…` ends the cells of column `cut`."""
    rooms = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rooms[cut] -= max(0, sum(rooms) + 2 * (len(rooms) - 1) - width)

    def line(row: Sequence[str]) -> str:
        cells = (cell if len(cell) <= room else cell[: room - 1] + "…" for cell, room in zip(row, rooms, strict=True))
        return visible("  ".join(cell.ljust(room) for cell, room in zip(cells, rooms, strict=True)).rstrip())

    return "\n".join(map(line, rows))


@contextmanager
def spinner(*, quiet: bool = False) -> Iterator[None]:
    """Show a spinner on stderr, if that is a terminal, while the source is read and nothing is written yet."""
    if not is_drawn(quiet):
        yield
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _drawn(SpinnerColumn("line"), TextColumn("reading the source"), TimeElapsedColumn()) as bar:
        bar.add_task("read", total=None)
        yield


@contextmanager
def progress(total: int | None, *, quiet: bool) -> Iterator[Any]:
    """Yield a function to call with the rows done so far.

    It draws a bar on stderr if that is a terminal, and else prints a line every LOG_EVERY seconds.
    """
    if not is_drawn(quiet):
        yield (lambda rows: None) if quiet else _logged(total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("converting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with _drawn(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("rows", total=total, speed="")

        def advance(rows: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=rows, speed=f"{speed:,.0f} rows/s" if speed else "")

        yield advance


LOG_EVERY = 10.0
"""Seconds between two lines about the progress of a run whose stderr is a file or a pipe."""


def _logged(total: int | None) -> Callable[[int], None]:
    started = last = time.monotonic()

    def advance(rows: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= LOG_EVERY:
            last = now
            print_err(progress_line(rows, total, now - started))

    return advance


def progress_line(rows: int, total: int | None, seconds: float) -> str:
    """Return how far a run is after some seconds, as in `2,000 of 8,000 rows, 100 rows/s, 1:00 left`."""
    speed = rows / seconds
    if total is None or not speed:
        return f"{rows:,} rows, {speed:,.0f} rows/s"
    left = round(max(0, total - rows) / speed)
    clock = f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02}" if left >= 3600 else f"{left // 60}:{left % 60:02}"
    return f"{rows:,} of {total:,} rows, {speed:,.0f} rows/s, {clock} left"


def is_drawn(quiet: bool) -> bool:
    """Return whether progress is drawn: on a terminal, unless `quiet`."""
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def stdout_is_terminal() -> bool:
    """Return whether what is written to stdout appears on the terminal, where a progress bar would be in its way."""
    return sys.stdout is not None and sys.stdout.isatty()


_drawing: list[Progress] = []
"""The display on stderr now, if any. Process-wide, as stderr is: `print_err` must write above it from any thread."""


@contextmanager
def _drawn(*columns: ProgressColumn) -> Iterator[Progress]:
    """Draw columns on stderr and remove them at the end; rich must not capture stdout, where the data goes."""
    from rich.progress import Progress

    shown_on = console(stderr=True)
    with Progress(*columns, console=shown_on, redirect_stdout=False, redirect_stderr=False, transient=True) as bar:
        _drawing.append(bar)
        try:
            yield bar
        finally:
            _drawing.remove(bar)
