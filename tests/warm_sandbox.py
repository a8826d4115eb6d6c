"""Fork sandbox processes from one that has imported what they need: a tenth of the time of a new interpreter.

It is started as a sandbox process is, by the same program, but for its end: instead of answering requests it waits at
a socket. A connection brings the pipes of a new sandbox process, and takes back a descriptor of the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from chatfmt.render.sandbox import process

SERVE = """
import os, signal, socket
from chatfmt.render.sandbox.seccomp import die_with_parent
from chatfmt.render.sandbox.worker import _load_lazy_imports
die_with_parent()
_load_lazy_imports()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket(fileno=0)
while True:
    connection, _ = listener.accept()
    _, pipes, _, _ = socket.recv_fds(connection, 1, 2)
    pid = os.fork()
    if pid == 0:
        for number in (0, 1):
            os.dup2(pipes[number], number)
        os.closerange(3, 16)
        main()
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    socket.send_fds(connection, [b"x"], [pidfd])
    connection.close()
    for number in (pidfd, *pipes):
        os.close(number)
"""


def start() -> str:
    """Start the process that forks and return its address; it ends with this process."""
    package = str(Path(process.__file__).resolve().parents[2])
    argument = json.dumps([[str(Path(entry).resolve()) for entry in sys.path], package])
    program = process.BOOT.removesuffix("main()\n") + SERVE
    address = f"\0chatfmt-tests-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        command = [sys.executable, "-I", "-S", "-B", "-c", program, argument]
        subprocess.Popen(command, stdin=listener, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={})
    return address


class ForkedInterpreter:
    """What `SandboxProcess` uses of `subprocess.Popen`, for a process that was forked at an address."""

    def __init__(self, address: str) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            socket.send_fds(connection, [b"x"], [theirs_in, theirs_out])
            _, (self._pidfd,), _, _ = socket.recv_fds(connection, 1, 1)
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin, self.stdout = os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb")

    def poll(self) -> int | None:
        return 0 if self._pidfd < 0 or select.select([self._pidfd], [], [], 0)[0] else None

    def wait(self) -> int:
        if self._pidfd >= 0:
            select.select([self._pidfd], [], [])
        return 0

    def kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def __del__(self) -> None:
        """Close the descriptor; of a cycle of garbage, another object may use this one later."""
        pidfd, self._pidfd = self._pidfd, -1
        os.close(pidfd)
