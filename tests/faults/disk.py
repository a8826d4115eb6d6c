"""What a disk may hold after a power loss: a record of the calls of a run, replayed in the ways a file system may.

Data that was not synced may be missing, torn or zeros. Names that were not synced (by a sync of their folder) may be
undone; names of one folder last in their order (a prefix of them is kept), those of different folders in any.
What is not modelled: bytes of a file reordered within one write, folders moved between unsynced parents.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .shim import in_output


@dataclass
class Node:
    """A file or a folder: what is there now, and what is known to last."""

    folder: bool
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    names: dict[str, Node] = field(default_factory=dict)
    lasting: dict[str, Node] = field(default_factory=dict)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """Changes of names that a sync of this folder makes last."""


class Disk:
    """Follows the calls of a run below `root` and builds what may be left of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, Node(True)
        self._open: dict[int, Node] = {}
        self.calls = 0

    def find(self, path: Path) -> Node | None:
        node: Node | None = self.top
        for part in path.relative_to(self.root).parts:
            node = node.names.get(part) if node else None
        return node

    def _parent(self, path: Path) -> Node:
        parent = self.find(path.parent)
        assert parent, path
        return parent

    def _put(self, path: Path, node: Node) -> None:
        parent = self._parent(path)
        parent.names[path.name] = node
        parent.waiting.append(lambda: parent.lasting.__setitem__(path.name, node))

    def _drop(self, path: Path) -> None:
        parent = self._parent(path)
        parent.names.pop(path.name, None)
        parent.waiting.append(lambda: parent.lasting.pop(path.name, None) and None)

    def opened(self, path: Path, flags: int, fd: int) -> None:
        node = self.find(path)
        if node is None:
            node = Node(False)
            self._put(path, node)
        if flags & os.O_TRUNC:
            node.data.clear()
        self._open[fd] = node

    def written(self, fd: int, data: bytes) -> None:
        if fd in self._open:
            self._open[fd].data += data

    def synced(self, fd: int) -> None:
        node = self._open.get(fd)
        if node and node.folder:
            for change in node.waiting:
                change()
            node.waiting.clear()
        elif node:
            node.synced = bytes(node.data)

    def closed(self, fd: int) -> None:
        self._open.pop(fd, None)

    def moved(self, old: Path, new: Path) -> None:
        node = self._parent(old).names.pop(old.name)
        before, after = self._parent(old), self._parent(new)
        after.names[new.name] = node

        def change() -> None:  # one transaction: the name is never in both places or in none
            if before.lasting.get(old.name) is node:
                del before.lasting[old.name]
            after.lasting[new.name] = node

        after.waiting.append(change)
        if before is not after:
            before.waiting.append(change)

    def linked(self, old: Path, new: Path) -> None:
        node = self.find(old)
        assert node, old
        self._put(new, node)

    def made(self, path: Path) -> None:
        self._put(path, Node(True))

    def removed(self, path: Path) -> None:
        self._drop(path)

    def after_power_loss(self, target: Path, chance: random.Random) -> None:
        """Write one state that the disk may be in now into the folder `target`."""
        kept = {
            id(node): chance.choice((0, len(node.waiting), chance.randint(0, len(node.waiting))))
            for node in self._all()
        }
        for node in self._all():
            for change in node.waiting[: kept[id(node)]]:
                change()
        self._build(self.top, target, chance)

    def _all(self) -> list[Node]:
        found, todo = [], [self.top]
        while todo:
            node = todo.pop()
            found.append(node)
            todo += [*node.names.values(), *(item for item in node.lasting.values() if item not in node.names.values())]
        return found

    def _build(self, node: Node, target: Path, chance: random.Random) -> None:
        target.mkdir(exist_ok=True)
        for name, child in node.lasting.items():
            if child.folder:
                self._build(child, target / name, chance)
            else:
                (target / name).write_bytes(_left_of(child, chance))


def _left_of(node: Node, chance: random.Random) -> bytes:
    if bytes(node.data) == node.synced:
        return node.synced
    size = chance.randint(0, len(node.data))
    return chance.choice((b"", node.synced, bytes(node.data[:size]), bytes(len(node.data)), bytes(node.data)))


@contextmanager
def recorded(disk: Disk, stop_at: int, stop: type[BaseException]) -> Iterator[None]:
    """Follow the calls below `disk.root` and raise `stop` for good before call number `stop_at`."""
    names = ("open", "write", "fsync", "close", "replace", "link", "unlink", "mkdir", "rmdir")
    real = {name: getattr(os, name) for name in names}

    def inside(path: Any) -> Path | None:
        found = Path(path) if isinstance(path, (str, os.PathLike)) else None
        return found if found and found.is_relative_to(disk.root) else None

    def step() -> None:
        disk.calls += 1
        if disk.calls >= stop_at:
            raise stop

    def open_(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        there = inside(path)
        ours = there and (in_output((path, flags), "open") or Path(path).is_dir()) and "dir_fd" not in named
        if ours:
            step()
        fd: int = real["open"](path, flags, *rest, **named)
        if ours and there:
            disk.opened(there, flags, fd) if not there.is_dir() else disk._open.__setitem__(
                fd, disk.find(there) or Node(True)
            )
        return fd

    def simple(name: str, note: Callable[..., None]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            step()
            result = real[name](*arguments, **named)
            note(*arguments, **named)
            return result

        return call

    def on_path(name: str, note: Callable[..., None]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, dir_fd: int | None = None) -> Any:
            step()
            extra = {"dir_fd": dir_fd} if dir_fd is not None else {}
            full = Path(f"/proc/self/fd/{dir_fd}").readlink() / path if dir_fd is not None else Path(path)
            real[name](path, *arguments, **extra)
            if there := inside(full):
                note(there, *(Path(item) for item in arguments if isinstance(item, (str, os.PathLike))))

        return call

    os.open = open_
    os.write = simple("write", lambda fd, data: disk.written(fd, bytes(data)))  # type: ignore[assignment]
    os.fsync = simple("fsync", disk.synced)
    os.close = simple("close", disk.closed)
    os.replace = on_path("replace", disk.moved)
    os.link = on_path("link", disk.linked)
    os.unlink = on_path("unlink", disk.removed)
    os.mkdir = on_path("mkdir", disk.made)
    os.rmdir = on_path("rmdir", disk.removed)
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)
