"""`python -m chatfmt` and the `chatfmt` command."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys

KEEP = "-1"
"""Memory that Arrow is done with stays with the process: given back and asked for again, batch by batch, it costs a
tenth of a conversion. The most that is used at once does not grow."""


def main() -> None:
    """Run chatfmt and leave with its exit code.

    While modules are being imported Ctrl-C ends the process without a traceback; afterwards it is handled.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        try:
            print(f"chatfmt {__version__}", flush=True)  # noqa: T201
        except OSError as error:
            print(f"error: cannot write to stdout: {error.strerror}", file=sys.stderr)  # noqa: T201
            os._exit(5)  # or Python would try again, and complain
        return
    gc.disable()  # imports make no garbage, and looking for it would be a tenth of their time: until there are data
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", KEEP)  # before pyarrow is there, which reads it then
    from .cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    leave(run())


def leave(code: int) -> None:
    """End the process, with its handlers at exit, but without taking apart what it has imported (0.1 s)."""
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # what could not be written was told before
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
