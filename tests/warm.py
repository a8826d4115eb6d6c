"""Run chatfmt commands and workers in processes that have everything imported already: a fraction of the time per test.

This process imports chatfmt once and forks for each command, as `chatfmt.executors.fork_server` does for each worker.
A command gets a directory, an environment and three files as standard streams, runs `main` of a module and exits
as it would in a shell; a worker gets a directory, an environment, two pipes and stderr. A request is a packet of JSON:
`{"do": "command", "argv", "module", "cwd", "env", "files"}`, `{"do": "worker", "cwd", "env"}` with three descriptors,
or `{"do": "wait", "pid"}`. The answer is a number: an exit code, negative for a signal, or the pid of the worker.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 300
"""Timeout for a command, in seconds."""
FRESH = ("PYTHON", "LC_", "LANG")
"""Prefixes of variables that an interpreter reads at start: what sets one runs in a fresh process."""
ROOT = Path(__file__).parent.parent
PACKET = 1 << 20
PIPE = 1 << 16
"""Bytes that a pipe holds unread."""
LIBRARIES = ("pyarrow.json", "pyarrow.parquet", "rich.console", "rich.table")
"""What commands import beside the modules of chatfmt. Libraries that read the environment at import are left out."""
OF_THE_HUB = ("pandas", "fsspec", "httpx2", "dill", "multiprocess", "pyarrow.dataset", "tqdm.auto", "filelock")
"""What `datasets` and `huggingface_hub` import, those two left out."""


class Warm:
    """The tests' side of that process, which is started on first use; safe for threads."""

    def __init__(self, *libraries: str) -> None:
        self._libraries = libraries
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._environment = dict(os.environ)

    def can_run(self, env: Mapping[str, str] = {}) -> bool:
        """Return whether a process with these additional variables can run without a fresh interpreter."""
        given = {**os.environ, **env}
        changed = {name for name in {*given, *self._environment} if given.get(name) != self._environment.get(name)}
        return sys.platform == "linux" and not any(name.startswith(FRESH) for name in changed)

    def run(
        self, argv: Sequence[str], *, module: str, stdin: bytes, env: Mapping[str, str], cwd: Path, stdout: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `main` of a module, such as that of chatfmt, and return its outcome.

        Instead of being returned, `stdout` may go to a device, or be `closed`.
        """
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
            files[0].write_bytes(stdin)
            request = {"argv": list(argv), "module": module, "cwd": str(cwd), "env": dict(env)}
            names = [str(files[0]), stdout or str(files[1]), str(files[2])]
            code = self._ask({"do": "command", **request, "files": names})
            texts = (file.read_bytes() if file.exists() else b"" for file in files[1:])
            return subprocess.CompletedProcess(["chatfmt", *argv], code, *texts)

    def fork(self, connection: int) -> int:
        """Return the pid of a new worker at the ends of two pipes, as `ForkServer.fork`."""
        return self._ask({"do": "worker", "cwd": str(Path.cwd()), "env": dict(os.environ)}, [connection, 2])

    def wait(self, pid: int) -> int:
        """Return the exit code of a dying worker, as `ForkServer.wait`."""
        return self._ask({"do": "wait", "pid": pid})

    def _ask(self, request: Mapping[str, Any], pipes: Sequence[int] = ()) -> int:
        with self._lock:
            if self._process is None:
                self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                command = [sys.executable, "-m", "tests.warm", str(theirs.fileno()), *self._libraries]
                self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
                theirs.close()
            socket.send_fds(self._connection, [json.dumps(request).encode()], pipes)
            return int(self._connection.recv(PACKET))


def serve(connection: socket.socket, *libraries: str) -> None:
    """Answer requests until the tests' side is gone; commands may need `libraries`, as far as they are installed."""
    import chatfmt
    from chatfmt.cli import terminal
    from chatfmt.executors.worker_main import without_pandas
    from chatfmt.render.sandbox import interpreters

    interpreters.server()
    without_pandas()
    terminal.LOG_EVERY = PATIENCE  # a busy machine brings no lines about progress into stderr
    modules = [module.name for module in pkgutil.walk_packages(chatfmt.__path__, "chatfmt.")]
    for name in (*modules, *LIBRARIES):
        importlib.import_module(name)
    for name in libraries:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        _warm_up(Path(folder))
    gc.freeze()
    while packet := socket.recv_fds(connection, PACKET, 3):
        data, pipes, _, _ = packet
        if not data:
            return
        request = json.loads(data)
        answer = {"command": _run_command, "worker": _start_worker, "wait": _wait}[request["do"]](request, pipes)
        connection.send(b"%d" % answer)


def _warm_up(folder: Path) -> None:
    """Run some commands in this process, which start no threads: what they compile and cache is there after a fork."""
    from chatfmt.cli import main

    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    source, out = str(folder / "in.jsonl"), str(folder / "out.parquet")
    Path(source).write_text(json.dumps({"messages": turns}))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for argv in (
            ["convert", source, "-t", "chatml", "-o", out, "--executor", "serial"],
            ["convert", out, "-o", "-", "--executor", "serial"],
            ["inspect", source],
            ["check", source, "-t", "qwen3"],
        ):
            main(argv)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run_command(request: Mapping[str, Any], _: Sequence[int]) -> int:
    stdin, into = os.pipe()
    given = Path(request["files"][0]).read_bytes()
    feeder = None
    if len(given) > PIPE:
        feeder = _forked(lambda: _feed(into, stdin, given))
    else:
        os.write(into, given)
    os.close(into)
    command = _forked(lambda: _command(request, stdin))
    os.close(stdin)
    _, status = os.waitpid(command, 0)
    if feeder:
        os.waitpid(feeder, 0)
    return os.waitstatus_to_exitcode(status)


def _start_worker(request: Mapping[str, Any], pipes: Sequence[int]) -> int:
    server = os.getpid()
    pid = _forked(lambda: _work(request, server, *pipes))
    for pipe in pipes:
        os.close(pipe)
    return pid


def _work(request: Mapping[str, Any], server: int, connection: int, stderr: int) -> None:
    from chatfmt.executors.worker_main import belong_to, work

    _enter(request)
    os.dup2(stderr, 2)
    belong_to(server)
    work(os.fdopen(connection, "rb"), os.fdopen(os.dup(connection), "wb"))


def _wait(request: Mapping[str, Any], _: Sequence[int]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(request["pid"], 0)[1])


def _enter(request: Mapping[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])


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


def _feed(into: int, stdin: int, given: bytes) -> None:
    os.close(stdin)
    with open(into, "wb") as pipe:  # noqa: PTH123
        pipe.write(given)


def _command(request: Mapping[str, Any], stdin: int) -> None:
    signal.alarm(PATIENCE)
    _enter(request)
    is_closed = request["files"][1] == "closed"
    paths = [os.devnull if path == "closed" else path for path in request["files"][1:]]
    files = [stdin, *(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in paths)]
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = standard(0, "r"), standard(1, "w"), standard(2, "w", "backslashreplace")
    if is_closed:
        os.close(1)
        sys.stdout = None
    sys.argv = ["chatfmt", *request["argv"]]
    importlib.import_module(request["module"]).main()


def standard(number: int, mode: str, errors: str = "strict") -> Any:
    """Return a text stream over a standard descriptor of this process."""
    raw = open(number, f"{mode}b", closefd=False)  # noqa: PTH123, SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=number == 2)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:])
