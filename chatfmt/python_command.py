"""The command that starts a new interpreter with the import path of this one, which dies with it."""

from __future__ import annotations

import json
import os
import sys


def python_command(code: str, *arguments: str, flags: tuple[str, ...] = ("-P",)) -> list[str]:
    """Return the command that runs `code` in a new interpreter, with `arguments` in `sys.argv[1:]`.

    With `-P` or `-I` it imports nothing from the current folder before it has the import path of this process.
    """
    path = json.dumps([os.path.realpath(entry) for entry in sys.path])
    start = "import json, sys\nsys.path[:] = json.loads(sys.argv.pop(1))\n"
    return [sys.executable, *flags, "-c", start + code, path, *arguments]


def die_with_parent() -> None:
    """Ask Linux to kill this process when the thread that started it ends (prctl(2))."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, 9)
