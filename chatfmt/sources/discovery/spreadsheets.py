"""Write one sheet of a spreadsheet as CSV: its cells are text, numbers as they are shown in full.

It is read in a process of its own with bounded memory. A kilobyte may name a cell in the last row and column, for which
the library asks for the memory of all cells before it, and where it gets none it ends the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...child_process import python_command
from ...errors import InputError, Location, MissingExtra, UnknownName, UsageError, is_panic
from ...scratch_folder import explained

MEMORY = 4 << 30
"""Bytes of address space for reading a spreadsheet."""
_CHILD = "from chatfmt.sources.discovery.spreadsheets import main; main()"


def read_sheet(path: Path, name: str | None, target: Path) -> str:
    """Write a sheet as CSV to `target`, and return its name; raises UsageError if there are several to choose from."""
    if find_spec("python_calamine") is None:
        raise MissingExtra.of("python-calamine", "xlsx")
    command = python_command(_CHILD, str(path), str(target), *([] if name is None else [name]))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:  # the library has ended the process
        if done.returncode > 0:
            raise RuntimeError(done.stderr.decode(errors="replace")) from None
        hint = "save the sheet as CSV; or the file is damaged"
        message = f"reading the spreadsheet takes more than {MEMORY >> 30} GiB of memory"
        raise InputError(message, code="file.memory", at=Location(str(path)), hint=hint) from None
    if "errno" in found:
        with explained(target):
            raise OSError(found["errno"], os.strerror(found["errno"]))
    if "error" in found:
        message, hint = f"the file cannot be read: {found['error']}", "save it again, or its sheet as CSV"
        raise InputError(message, code="file.damaged", at=Location(str(path)), hint=hint)
    return _choose_sheet(name, found["filled"], found["known"], path)


def main() -> None:
    """Write the sheet that is named, or the first with cells; write to stdout which have cells, or what is wrong."""
    import csv

    from python_calamine import CalamineError, CalamineWorkbook

    path, target, *named = sys.argv[1:]
    _bound_memory()
    filled: list[str] = []
    try:
        book = CalamineWorkbook.from_path(path)
        for name in [name for name in named if name in book.sheet_names] or book.sheet_names:
            if rows := book.get_sheet_by_name(name).to_python():
                filled.append(name)
            if named or filled == [name]:
                with Path(target).open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file, quoting=csv.QUOTE_ALL).writerows(map(_cell, row) for row in rows)
        answer: dict[str, Any] = {"known": book.sheet_names, "filled": filled}
    except CalamineError as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"errno": error.errno}
    except BaseException as error:
        if not is_panic(error):  # of the library, for what it does not expect
            raise
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [bound for bound in (MEMORY, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))


def _choose_sheet(name: str | None, filled: Sequence[str], known: Sequence[str], path: Path) -> str:
    """Return the sheet of that name, or the only one with cells."""
    if name is not None:
        if name not in known:
            raise UnknownName.of("sheet", name, known)
        return name
    if not filled:
        hint = "no sheet has a cell: name a file with rows"
        raise InputError("no records", code="file.empty", at=Location(str(path)), hint=hint)
    if len(filled) > 1:
        listed = ", ".join(f"`{sheet}`" for sheet in filled)
        raise UsageError(f"`{path}` has several sheets: {listed}", hint=f"choose one, as in --name '{filled[0]}'")
    return filled[0]


def _cell(value: Any) -> str:
    """Return the text of a cell: whole numbers without a decimal point, dates and times as ISO 8601."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
