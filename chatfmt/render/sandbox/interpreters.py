"""Interpreters for sandbox processes: forked from one that waits with everything imported, else started one by one.

That server is a fresh interpreter as well, and reads nothing but requests to fork. So what it forks has no data, no
environment, no open file and no thread of the run, just as an interpreter that was started for one template. A request
is the socket that becomes stdin and stdout of the new process; the answer, over the same socket, is a descriptor of the
process. Processes that are forked after the server was started, such as workers, share it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

from ...child_process import python_command

NEEDED = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Environment variables that an interpreter may need to start; tokens and keys are not passed on."""
UNUSED = (
    "decimal", "ipaddress", "uuid", "jinja2.bccache", "jinja2.loaders",
    "msgspec._json_schema", "msgspec.inspect", "msgspec.msgpack", "msgspec.toml", "msgspec.yaml",
)  # fmt: skip
"""Modules that Jinja, msgspec and the standard library import, and that no template needs: a fifth of the start."""
BOOT = f"""
import gc, types
gc.disable()  # imports make no garbage
package, sys.pycache_prefix, sys.dont_write_bytecode = json.loads(sys.argv[1])
for name in ("chatfmt", "chatfmt.render"):  # without running their `__init__`: pyarrow costs more than all the rest
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = [package + name.removeprefix("chatfmt").replace(".", "/")]
class Unused(type):  # stands for such a module, and for a class in it that can have no instances
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Unused(name, (), {{"__new__": None}})
sys.modules.update({{name: Unused(name, (), {{}}) for name in {UNUSED}}})
sys.modules["typing_extensions"] = None  # msgspec does without
from chatfmt.render.sandbox.worker import main, serve
"""
"""The start of the program. Its argument is JSON: the folder of the package, and where bytecode goes."""


class Interpreter(Protocol):
    """The part of `subprocess.Popen` that a `SandboxProcess` uses."""

    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


def start_interpreter() -> Interpreter:
    """Start an interpreter that runs `worker.main`."""
    running = server()
    return (running and running.fork()) or _popen("main()", stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@cache
def server() -> InterpreterServer | None:
    """Return the server of this process, started now if there is none; None where processes have no descriptors."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # another system than Linux, or a container that forbids it
        return None
    return InterpreterServer()


class InterpreterServer:
    """The server as the run sees it: ask it for processes, and end it."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _popen("serve()", stdin=theirs, stdout=subprocess.DEVNULL)
        self._owner, self._gone = os.getpid(), False
        atexit.register(self.close)

    def fork(self) -> Interpreter | None:
        """Return a new process; None, now and later, if the server is gone."""
        if self._gone:
            return None
        ours, theirs = socket.socketpair()
        with ours, contextlib.suppress(OSError):
            with theirs:
                socket.send_fds(self._requests, [b"\0"], [theirs.fileno()])
            _, found, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
            if found:
                return _Forked(ours, *found)
        self._gone = True
        return None

    def close(self) -> None:
        """End it, and what it has forked."""
        if os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()


class _Forked:
    """A process that the server has forked."""

    def __init__(self, connection: socket.socket, pidfd: int) -> None:
        self.stdin, self.stdout = connection.makefile("wb"), connection.makefile("rb")
        self._pidfd, self._ended = pidfd, select.poll()
        self._ended.register(pidfd, select.POLLIN)

    def poll(self) -> int | None:
        return 0 if self._pidfd < 0 or self._ended.poll(0) else None

    def wait(self) -> int:
        if self._pidfd >= 0:
            self._ended.poll()
        return 0

    def kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def __del__(self) -> None:
        """Close the descriptor; in a cycle of garbage, an object that is collected later may still use this one."""
        pidfd, self._pidfd = self._pidfd, -1
        os.close(pidfd)


def _popen(call: str, **streams: Any) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])
    argument = json.dumps([package, sys.pycache_prefix, sys.dont_write_bytecode])
    command = python_command(BOOT + call, argument, flags=("-I", "-S"))
    env = {name: os.environ[name] for name in NEEDED if name in os.environ}
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env, **streams)
