"""Runs that are hit by a fault, then resumed as a user would, and what must be true afterwards."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chatfmt.errors import ChatfmtError, OutputError
from chatfmt.manifest import MANIFEST, verify
from tests.writers.samples import convert, listing

from .disk import Disk, recorded
from .shim import CALLS, Count, Crash, crashing, failing, shim

ERRNOS = (errno.ENOSPC, errno.EIO)


@dataclass
class Outcome:
    """What became of one fault: `wrong` is empty where all is well."""

    fault: str
    wrong: str


def states(out: Path) -> str:
    """What is wrong with a folder that a reader may look at right now: nothing, the old or the new result, or torn."""
    if (out / MANIFEST).exists():
        return "; ".join(map(str, verify(out)))
    return ""


def check_names(out: Path, wholes: list[dict[str, bytes]]) -> str:
    """Under a final name is nothing but what one of the whole results has there."""
    for name, data in listing(out).items():
        if (
            not Path(name).name.startswith(".")
            and not name.startswith(".chatfmt")
            and data not in [whole.get(name) for whole in wholes]
        ):
            return f"`{name}` is torn"
    return ""


def finish(out: Path, wanted: dict[str, bytes]) -> str:
    """Resume, and compare with what an undisturbed run gives."""
    try:
        convert(out, fingerprint="f2", resume=True)
    except OutputError as error:
        if error.code not in ("output.fingerprint", "output.exists"):
            return f"resume failed: {error}"
        try:  # it was hit before the run had begun here: what the user does then
            convert(out, fingerprint="f2", overwrite=True)
        except ChatfmtError as second:
            return f"overwrite failed: {second}"
    except Exception as error:
        return f"resume raised {type(error).__name__}: {error}"
    found = listing(out)
    return (
        ""
        if found == wanted
        else f"differs in {sorted(name for name in found.keys() | wanted if found.get(name) != wanted.get(name))}"
    )


class Workshop:
    """Folders for the faults, and the results that they are measured against."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        convert(folder / "old", fingerprint="f1", shards=3)
        convert(folder / "new", fingerprint="f2")
        self.old, self.new = listing(folder / "old"), listing(folder / "new")

    def fresh(self, *, with_old: bool) -> Path:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        if with_old:
            shutil.copytree(self.folder / "old", out)
        return out

    def hit(self, name: str, count: Count, *, with_old: bool) -> Outcome | None:
        """Run under a shim; None where the fault did not happen any more."""
        out = self.fresh(with_old=with_old)
        error: BaseException | None = None
        try:
            with shim(count):
                convert(out, fingerprint="f2", overwrite=with_old)
        except (ChatfmtError, Crash) as caught:
            error = caught
        if not count.struck:
            return None
        wrong = (
            ""
            if error or count.calls == ("close",) or listing(out) == self.new
            else "no error and not the whole result"
        )
        wrong = wrong or states(out) or check_names(out, [self.old, self.new]) or finish(out, self.new)
        return Outcome(name, wrong)

    def every(
        self, name: str, fault: Callable[[int], Count], *, with_old: bool, step: int = 1, first: int = 1
    ) -> Iterator[Outcome]:
        """Fail at n = 1, 2, 3, … until nothing fails."""
        nth = first
        while outcome := self.hit(f"{name} {nth}", fault(nth), with_old=with_old):
            yield outcome
            nth += step

    def kills(self, *, step: int = 1, first: int = 1) -> Iterator[Outcome]:
        for with_old in (False, True):
            yield from self.every("kill before call", crashing, with_old=with_old, step=step, first=first)

    def failures(self, *, step: int = 1, first: int = 1) -> Iterator[Outcome]:
        for with_old in (False, True):
            for call in CALLS:
                for number in ERRNOS:
                    yield from self.every(
                        f"{call} fails with {errno.errorcode[number]} at",
                        lambda nth, call=call, number=number: failing((call,), nth, number),  # type: ignore[misc]
                        with_old=with_old, step=step, first=first,
                    )  # fmt: skip

    def power_losses(self, number: int, seed: int) -> Iterator[Outcome]:
        """Power is lost at random moments of a first run."""
        chance = random.Random(seed)
        calls = self._calls()
        for place in range(number):
            yield self._power_loss(f"power loss {seed}.{place}", chance.randint(1, calls + 1), chance)

    def _calls(self) -> int:
        disk = Disk(self.folder / "lost")
        self._record(disk, 1 << 60)
        return disk.calls

    def _record(self, disk: Disk, stop_at: int) -> bool:
        """Whether the run came to its end, as far as anyone was told."""
        shutil.rmtree(disk.root, ignore_errors=True)
        disk.root.mkdir()
        try:
            with recorded(disk, stop_at, Crash):
                convert(disk.root / "out", fingerprint="f2")
        except Crash:
            return False
        return True

    def _power_loss(self, name: str, stop_at: int, chance: random.Random) -> Outcome:
        disk = Disk(self.folder / "lost")
        told = self._record(disk, stop_at)
        out = self.fresh(with_old=False)
        target = self.folder / "state"
        shutil.rmtree(target, ignore_errors=True)
        disk.after_power_loss(target, chance)
        if (target / "out").exists():
            (target / "out").rename(out)
        if (
            told
            and (listing(out) if out.exists() else {}) != {**self.new, ".chatfmt/lock": b""}
            and not _same(out, self.new)
        ):
            return Outcome(name, "the run had said that it was done, and its result is gone")
        wrong = states(out) or check_names(out, [self.new])
        return Outcome(name, wrong or finish(out, self.new))


def _same(out: Path, wanted: dict[str, bytes]) -> bool:
    """The same files; a lock is nothing that has to last."""
    found = listing(out) if out.exists() else {}
    return {name: data for name, data in found.items() if "lock" not in name} == {
        name: data for name, data in wanted.items() if "lock" not in name
    }
