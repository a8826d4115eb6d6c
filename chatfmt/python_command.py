"""The command that starts a new interpreter with the import path of this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def python_command(code: str, *arguments: str, flags: tuple[str, ...] = ("-P",)) -> list[str]:
    """Return the command that runs `code` in a new interpreter, with `arguments` in `sys.argv[1:]`.

    With `-P` or `-I` it imports nothing from the current folder before it has the import path of this process.
    """
    path = json.dumps([str(Path(entry).resolve()) for entry in sys.path])
    start = "import json, sys\nsys.path[:] = json.loads(sys.argv.pop(1))\n"
    return [sys.executable, *flags, "-c", start + code, path, *arguments]
