"""The parent's side of a sandbox process: start it, send requests, read answers, end it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, cast

from .framing import read_frame, to_frame

NEEDED = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Environment variables that an interpreter may need to start; tokens and keys are not passed on."""
BOOT = """
import json, sys, types
path, package = json.loads(sys.argv[1])
sys.path[:] = path
for name in ("chatfmt", "chatfmt.render"):  # without running their `__init__`: pyarrow costs more than all the rest
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = [package + name.removeprefix("chatfmt").replace(".", "/")]
sys.modules["numpy"] = numpy = types.ModuleType("numpy")
numpy.generic = type("generic", (), {})  # JSON holds no numpy values
from chatfmt.render.sandbox.worker import main
main()
"""
"""The program of the process; its argument is JSON: the import path and the folder of the package."""


class SandboxDied(Exception):
    """The process died, or was killed after its time limit, before it answered."""


class SandboxProcess:
    """A running sandbox process; `state` is its answer to `setup`. After SandboxDied it cannot be used again."""

    def __init__(self, setup: dict[str, Any], seconds: float) -> None:
        self._seconds = seconds
        self._process = _take_interpreter()
        try:
            (self.state,) = self.request(json.dumps(setup).encode(), 1)
        except SandboxDied:
            self.close()
            raise

    def request(self, body: bytes, answers: int) -> list[Any]:
        """Send a request and return its `answers`; raises SandboxDied if they take longer than the time limit."""
        timer = threading.Timer(self._seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            stdin = cast(BinaryIO, self._process.stdin)
            stdin.write(to_frame(body))
            stdin.flush()
            return [self._receive() for _ in range(answers)]
        except (OSError, ValueError):
            raise SandboxDied from None
        finally:
            timer.cancel()

    def _receive(self) -> Any:
        body = read_frame(cast(BinaryIO, self._process.stdout).read)
        if body is None:
            raise SandboxDied
        return json.loads(body)

    def close(self) -> None:
        _end(self._process)


class _Spare:
    """An interpreter that waits for its first use."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = _start_interpreter()

    def take(self) -> subprocess.Popen[bytes] | None:
        process, self._process = self._process, None
        return process


_spare: ContextVar[_Spare | None] = ContextVar("_spare", default=None)
"""The spare of the innermost `prestarted_process` of this thread, so that no other thread takes it."""


@contextlib.contextmanager
def prestarted_process() -> Iterator[None]:
    """Start an interpreter now, for the first SandboxProcess inside the block: it imports modules meanwhile."""
    spare = _Spare()
    token = _spare.set(spare)
    try:
        yield
    finally:
        _spare.reset(token)
        if unused := spare.take():
            _end(unused)


def _take_interpreter() -> subprocess.Popen[bytes]:
    spare = _spare.get()
    return (spare.take() if spare else None) or _start_interpreter()


def _start_interpreter() -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])
    argument = json.dumps([[str(Path(entry).resolve()) for entry in sys.path], package])
    command = [sys.executable, "-I", "-S", "-B", "-c", BOOT, argument]
    env = {name: os.environ[name] for name in NEEDED if name in os.environ}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=env)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            cast(BinaryIO, pipe).close()
