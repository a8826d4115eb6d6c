"""Failing system calls, without root and without hooks in chatfmt: `os` is patched around one run.

All output goes through `writers.fsops`, which calls these functions of `os` (or pathlib, which calls them).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CALLS = ("open", "write", "fsync", "replace", "link", "unlink", "mkdir", "rmdir", "close")


class Crash(BaseException):
    """The process is dead: what it raises in afterwards never happened."""


class Count:
    """How many calls there were, and what to do at the n-th."""

    def __init__(self, calls: tuple[str, ...], nth: int, act: Callable[[], None], *, for_good: bool) -> None:
        self.calls, self.nth, self.act, self.for_good = calls, nth, act, for_good
        self.seen = 0

    @property
    def struck(self) -> bool:
        return self.seen >= self.nth

    def __call__(self, name: str) -> None:
        if name in self.calls:
            self.seen += 1
            if self.seen == self.nth or (self.for_good and self.struck):
                self.act()
        elif self.for_good and self.struck:
            self.act()


def in_output(arguments: tuple[Any, ...], name: str) -> bool:
    """Whether a call is one of ours: reads of modules and the lock do not count."""
    if name != "open":
        return True
    path, *rest = arguments
    flags = rest[0] if rest else os.O_RDONLY
    return bool(flags & os.O_CREAT) and not str(path).endswith("/lock")


@contextmanager
def shim(count: Count) -> Iterator[None]:
    """Count the calls of `os`; the action comes before the call, which then does not happen."""
    real = {name: getattr(os, name) for name in CALLS}

    def patched(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if name == "close":  # the descriptor is gone, also when close fails, and when the process is dead
                real[name](*arguments, **named)
                return count(name)
            if in_output(arguments, name):
                count(name)
            return real[name](*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, patched(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def failing(calls: tuple[str, ...], nth: int, number: int) -> Count:
    """The n-th of `calls` fails with an errno."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return Count(calls, nth, fail, for_good=False)


def crashing(nth: int) -> Count:
    """The process dies before its n-th call of any kind."""

    def crash() -> None:
        raise Crash

    return Count(CALLS, nth, crash, for_good=True)
