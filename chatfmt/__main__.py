"""`python -m chatfmt` and the `chatfmt` command."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import types

NEVER_PURGE = "-1"
"""Keep memory that Arrow has freed: returning and requesting it again for each batch takes a tenth of a conversion.
Peak memory does not grow."""
ARENA = str(256 << 10)
"""KiB of addresses that Arrow reserves at once: with its 1 GiB, little is left of a limit such as `ulimit -v`."""
RARELY = 20_000
"""New objects after which garbage is collected: with Python's 700, that is several times per batch, and finds none."""


def main() -> None:
    """Run chatfmt and exit with its code.

    During imports Ctrl-C ends the process without a traceback; afterwards it is handled.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        try:
            print(f"chatfmt {__version__}", flush=True)  # noqa: T201
        except OSError as error:
            print(f"error: cannot write to stdout: {error.strerror}", file=sys.stderr)  # noqa: T201
            os._exit(5)  # at exit Python would write again, and report a second failure
        return
    gc.disable()  # imports make no garbage, and collecting it takes a tenth of their time; on again before data is read
    gc.set_threshold(RARELY)
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", NEVER_PURGE)  # pyarrow reads both when imported
    os.environ.setdefault("MIMALLOC_ARENA_RESERVE", ARENA)
    without_docstrings()
    from .cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    leave(run())


def without_docstrings() -> None:
    """Keep pyarrow.compute from writing docstrings for the options of its functions when it is imported (15 ms)."""
    scraper = types.ModuleType("pyarrow.vendored.docscrape")
    scraper.NumpyDocString = lambda text: {"Parameters": ()}  # type: ignore[attr-defined]
    sys.modules[scraper.__name__] = scraper


def leave(code: int) -> None:
    """End the process after its exit handlers, without tearing down imported modules (0.1 s)."""
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is written: Ctrl-C just ends the process
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # failures to write were reported before
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
