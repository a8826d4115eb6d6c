"""Run chatfmt commands in processes that have everything imported already: a third of the time per test.

This process imports chatfmt once and forks for each command, as `chatfmt.executors.fork_server` does for each worker.
The command gets a directory, an environment and three files as standard streams, runs `chatfmt.__main__.main` and exits
as it would in a shell. A request is a line of JSON, `{"argv", "cwd", "env", "files"}`; the answer is a line with the
exit code, negative for a signal.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 300
"""Timeout for a command, in seconds."""
FRESH = ("PYTHON", "LC_", "LANG")
"""Prefixes of variables that an interpreter reads at start: commands that set one run in a fresh process."""


class Warm:
    """The tests' side of that process, which is started on first use."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def can_run(env: Mapping[str, str]) -> bool:
        """Return whether a command with these additional variables can run without a fresh interpreter."""
        return sys.platform == "linux" and not any(name.startswith(FRESH) for name in env)

    def run(
        self, argv: Sequence[str], *, stdin: bytes, env: Mapping[str, str], cwd: Path
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `chatfmt ARGV` and return its outcome."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
            files[0].write_bytes(stdin)
            request = {"argv": list(argv), "cwd": str(cwd), "env": dict(env), "files": list(map(str, files))}
            code = self._ask(request)
            return subprocess.CompletedProcess(["chatfmt", *argv], code, *(file.read_bytes() for file in files[1:]))

    def _ask(self, request: Mapping[str, Any]) -> int:
        if self._process is None:
            command = [sys.executable, "-m", "tests.warm"]
            root = Path(__file__).parent.parent
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def serve() -> None:
    """Answer requests until stdin ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    from chatfmt.cli import app, terminal  # noqa: F401
    from chatfmt.executors.worker_main import without_pandas

    without_pandas()
    import chatfmt.pipeline.running.run  # noqa: F401

    for line in requests:
        request = json.loads(line)
        stdin, into = os.pipe()
        feeder = _forked(lambda: _feed(into, stdin, Path(request["files"][0])))
        os.close(into)
        command = _forked(lambda: _command(request, stdin))
        os.close(stdin)
        _, status = os.waitpid(command, 0)
        os.waitpid(feeder, 0)
        answers.write(b"%d\n" % os.waitstatus_to_exitcode(status))
        answers.flush()


def _forked(run: Callable[[], None]) -> int:
    """Fork a process that calls `run` and exits; return its pid."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        run()
        code = 0
    except BrokenPipeError:  # a command that does not read all of its stdin
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _feed(into: int, stdin: int, file: Path) -> None:
    os.close(stdin)
    with open(into, "wb") as pipe:  # noqa: PTH123
        pipe.write(file.read_bytes())


def _command(request: Mapping[str, Any], stdin: int) -> None:
    signal.alarm(PATIENCE)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(stdin, 0)
    for number, path in enumerate(request["files"][1:], 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.closerange(3, 64)
    sys.stdin, sys.stdout, sys.stderr = standard(0, "r"), standard(1, "w"), standard(2, "w", "backslashreplace")
    sys.argv = ["chatfmt", *request["argv"]]
    from chatfmt.__main__ import main

    main()


def standard(number: int, mode: str, errors: str = "strict") -> Any:
    """Return a text stream over a standard descriptor of this process."""
    raw = open(number, f"{mode}b", closefd=False)  # noqa: PTH123, SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=number == 2)


if __name__ == "__main__":
    serve()
