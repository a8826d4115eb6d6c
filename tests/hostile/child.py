"""A process that runs chatfmt commands within limits and reports the outcome of each.

A request is a line of JSON: `{"argv", "cwd", "stdin", "stdout", "limits"}`. The answer is a line too: exit code, the
errors shown (class, reason code, text, message), stdout and stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..warm import standard

MEMORY = 1_500_000_000
SECONDS = 20
"""CPU seconds for one case."""


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, flags), number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from chatfmt.executors.worker_main import without_pandas

    without_pandas()
    from chatfmt import pipeline  # noqa: F401
    from chatfmt.cli import main as run
    from chatfmt.cli import terminal
    from chatfmt.render.sandbox import interpreters

    interpreters.server()  # without limits, and shared by all cases
    most = MEMORY + kilobytes("VmSize") * 1024  # pyarrow's allocator reserves 1 GB that it does not use
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    shown: list[list[str]] = []
    say = terminal.print_error

    def remember(error: Any) -> None:
        shown.append([type(error).__name__, error.code, str(error), error.message])
        say(error)

    terminal.print_error = remember
    for line in requests:
        shown.clear()
        request = json.loads(line)
        answers.write(json.dumps({**answer(run, request), "errors": list(shown)}).encode() + b"\n")
        answers.flush()


def answer(run: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run one command with files as its standard streams."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    os.chdir(request["cwd"])
    forget_peak()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with streams(request, out.fileno(), err.fileno()), limited(request["limits"]):
            code = run(request["argv"])
            with contextlib.suppress(OSError, AttributeError, ValueError):
                sys.stdout.flush()
        texts = {}
        for name, file in (("stdout", out), ("stderr", err)):
            file.seek(0)
            texts[name] = file.read().decode("utf-8", "backslashreplace")
    return {"exit": code, "memory": kilobytes("VmHWM") * 1024, **texts}


def kilobytes(name: str) -> int:
    """Return a memory figure of this process from /proc; 0 on other systems."""
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def forget_peak() -> None:
    """Reset `VmHWM`, the peak memory in use."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def limited(limits: Mapping[str, int]) -> Iterator[None]:
    """Set soft limits inside the block."""
    before = {name: resource.getrlimit(getattr(resource, name)) for name in limits}
    for name, soft in limits.items():
        resource.setrlimit(getattr(resource, name), (soft, before[name][1]))
    try:
        yield
    finally:
        for name, value in before.items():
            resource.setrlimit(getattr(resource, name), value)


@contextlib.contextmanager
def streams(request: Mapping[str, Any], out: int, err: int) -> Iterator[None]:
    """Descriptors 0, 1 and 2, and Python's own, for one run."""
    kept = [os.dup(number) for number in range(3)]
    objects = sys.stdin, sys.stdout, sys.stderr
    stdin = os.open(request["stdin"] or os.devnull, os.O_RDONLY)
    target = _stdout(request["stdout"], out)
    for source, number in ((stdin, 0), (target, 1), (err, 2)):
        os.dup2(source, number)
    os.close(stdin)
    if target != out:
        os.close(target)
    escaped = "backslashreplace"
    sys.stdin, sys.stdout, sys.stderr = standard(0, "r", escaped), standard(1, "w", escaped), standard(2, "w", escaped)
    if request["stdout"] == "closed":
        os.close(1)
        sys.stdout = None
    try:
        yield
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr, sys.stdin)):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                stream.close()  # otherwise unwritten text goes to the next owner of the descriptor
        for number, old in enumerate(kept):
            os.dup2(old, number)
            os.close(old)
        sys.stdin, sys.stdout, sys.stderr = objects


def _stdout(kind: str, out: int) -> int:
    if kind == "full":
        return os.open("/dev/full", os.O_WRONLY)
    if kind == "gone":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return out


if __name__ == "__main__":
    main()
