"""The tests' side of the limited child process: send a command, get its outcome or its death."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..conftest import ROOT

PATIENCE = 60


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command: exit code, streams, and the errors shown as (class, code, text, message)."""

    exit: int
    stdout: str
    stderr: str
    errors: list[list[str]]
    memory: int
    """Peak resident memory in bytes."""


class Child:
    """One child process, restarted if a case kills it; `deaths` counts that."""

    def __init__(self) -> None:
        self.deaths = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.hostile.child"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)

    def run(
        self, argv: tuple[str, ...], cwd: Path, *, stdin: Path | None, stdout: str, limits: Mapping[str, int]
    ) -> Outcome:
        """Return the outcome of a command; raises RuntimeError if the child dies."""
        request = {"argv": argv, "cwd": str(cwd), "stdin": str(stdin) if stdin else None, "stdout": stdout}
        clock = threading.Timer(PATIENCE, self._process.kill)
        clock.start()
        try:
            return Outcome(**self._ask({**request, "limits": dict(limits)}))
        finally:
            clock.cancel()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] and pipes[1]
        pipes[0].write(json.dumps(request).encode() + b"\n")
        pipes[0].flush()
        line = pipes[1].readline()
        if not line:
            code = self._process.wait()
            self.deaths += 1
            self._process = self._start()
            raise RuntimeError(f"the child died of it: {code}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
