"""A process that forks workers: it imports the modules once, and a worker starts within milliseconds.

It is itself forked, from a process without other threads, and never starts a thread, so that its forks are sound
(fork(2): only the calling thread survives in the child). It serves one request at a time over a socket pair: fork a
worker at the end of a connection (answer: its pid), or wait for a worker to end (answer: its exit code, negative for
a signal). It dies with its parent, and its workers die with it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import signal
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Sequence

from .watchdog import Watchdog
from .worker_main import belong_to, die_with, work

NUMBER = struct.Struct("<q")
FORK = 0
"""The request for a worker; any other number is the pid of a worker to wait for."""


class ForkServer:
    """The parent's side of the socket; safe for threads."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self._pid, self._connection, self._lock = pid, connection, threading.Lock()
        self._watchdog = Watchdog(pid, self._kill)

    def fork(self, connection: int) -> int:
        """Return the pid of a new worker at the end of a connection; raises OSError if there is none."""
        pid = self._request(FORK, [connection])
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def wait(self, pid: int) -> int:
        """Return the exit code of a dying worker, -N for a signal; raises OSError if the fork server is gone."""
        return self._request(pid, [])

    def _request(self, number: int, descriptors: Sequence[int]) -> int:
        with self._lock:
            socket.send_fds(self._connection, [NUMBER.pack(number)], descriptors)
            answer = self._connection.recv(NUMBER.size, socket.MSG_WAITALL)
        if len(answer) < NUMBER.size:
            raise BrokenPipeError("the process that forks workers is gone")
        return int(NUMBER.unpack(answer)[0])

    def close(self) -> None:
        """Kill it and its workers, and wait for it."""
        self._watchdog.close()
        self._kill()
        os.waitpid(self._pid, 0)
        self._connection.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


def can_fork() -> bool:
    """Return whether a fork server can start: on Linux, in a process without other Python threads."""
    return sys.platform == "linux" and threading.active_count() == 1


def start_fork_server(module: str, *more: str) -> ForkServer:
    """Start a fork server that has imported `module`, as this process has; it imports `more` while this one goes on."""
    importlib.import_module(module)
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    with warnings.catch_warnings():  # Python warns of any thread; jemalloc's own is safe to fork
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(theirs, parent, more)
    theirs.close()
    return ForkServer(pid, ours)


def _serve(connection: socket.socket, parent: int, modules: Sequence[str]) -> None:
    """Serve requests until the parent is gone."""
    try:
        belong_to(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for module in modules:
            importlib.import_module(module)
        gc.freeze()  # never collect what exists now, so that forks share its pages
        gc.enable()
        while True:
            data, descriptors, _, _ = socket.recv_fds(connection, NUMBER.size, 1)
            if not data:
                os._exit(0)
            (number,) = NUMBER.unpack(data)
            connection.sendall(NUMBER.pack(_fork(connection, *descriptors) if number == FORK else _wait(number)))
    finally:
        os._exit(1)


def _fork(connection: socket.socket, worker: int) -> int:
    """Return the pid of a new worker, or the negative number of the error where the system starts none."""
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or errno.EAGAIN)
    if pid == 0:
        connection.close()
        die_with(parent)
        work(os.fdopen(worker, "rb"), os.fdopen(os.dup(worker), "wb"))
    os.close(worker)
    return pid


def _wait(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
