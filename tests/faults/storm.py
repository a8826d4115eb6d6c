"""Every fault at every place, with counts: `python -m tests.faults.storm [--kills 60] [--power 300] [--damages 2000]`.

Kills a real process at random moments and before each system call, lets each call fail with ENOSPC and EIO, simulates
power losses, kills a worker in each task, and damages single bytes for `verify` to find. The same faults must do harm
when single protections are removed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from chatfmt.manifest import verify
from chatfmt.writers import AtomicFile, durable
from tests.test_manifest import damage
from tests.writers.samples import convert, listing

from .scenarios import Outcome, Workshop, check_names, states

SHARDS = 20


def report(name: str, outcomes: Iterable[Outcome], *, harm: bool = False) -> bool:
    found = list(outcomes)
    wrong = [outcome for outcome in found if outcome.wrong]
    good = bool(found) and bool(wrong) is harm
    verdict, remark = "ok  " if good else "FAIL", " (as it must be)" if harm else ""
    print(f"{verdict} {name}: {len(found)} faults, {len(wrong)} wrong{remark}", flush=True)
    for outcome in wrong[: 0 if harm else 5]:
        print(f"       {outcome.fault}: {outcome.wrong}")
    return good


def real_kills(folder: Path, number: int, seed: int) -> Iterable[Outcome]:
    """SIGKILL at random moments, again and again on the same folder, until a run ends by itself."""
    chance = random.Random(seed)
    convert(folder / "warm", fingerprint="f2", shards=SHARDS)
    begun = time.monotonic()
    convert(folder / "wanted", fingerprint="f2", shards=SHARDS)
    longest = 1.2 * (time.monotonic() - begun)
    wanted, out = listing(folder / "wanted"), folder / "out"
    killed = 0
    while killed < number:
        shutil.rmtree(out, ignore_errors=True)
        ended = False
        while not ended:
            ended = not _kill_one(out, chance.uniform(0, longest))
            killed += not ended
            if not ended:
                yield Outcome(f"kill -9 {killed}", states(out) or check_names(out, [wanted]) if out.exists() else "")
        yield Outcome(f"result after {killed} kills", "" if listing(out) == wanted else "differs")


def _kill_one(out: Path, after: float) -> bool:
    """Whether the run, in a process of its own, was killed before it ended."""
    pid = os.fork()
    if not pid:
        code = 5
        try:
            convert(out, fingerprint="f2", resume=True, shards=SHARDS)
            code = 0
        finally:
            os._exit(code)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def damages(folder: Path, number: int, seed: int) -> Iterable[Outcome]:
    """One spot of a Parquet or JSONL folder is changed; `verify` must say so."""
    chance = random.Random(seed)
    for format in ("parquet", "jsonl"):
        out = folder / format
        convert(out, format=format)
        files = [*sorted((out / "data").iterdir()), out / ".chatfmt/manifest.json", out / ".chatfmt/rejects.jsonl"]
        for place in range(number // 2):
            path = chance.choice(files)
            whole = path.read_bytes()
            while (broken := damage(whole, chance)) == whole:
                pass
            path.write_bytes(broken)
            yield Outcome(f"damage {format} {place} in {path.name}", "" if verify(out) else "verify found nothing")
            path.write_bytes(whole)


def nothing(*arguments: object) -> None:
    return None


def write_in_place(path: Path, data: bytes) -> None:
    with durable.OutputFile(path) as file:
        file.write(data)
        file.sync()


ABLATIONS: dict[str, tuple[Any, str, Any, Callable[[Workshop], Iterable[Outcome]]]] = {
    "no sync of files": (durable.OutputFile, "sync", nothing, lambda shop: shop.power_losses(100, 5)),
    "no sync of folders": (durable, "sync_folder", nothing, lambda shop: shop.power_losses(100, 6)),
    "no temporary file for state": (durable, "write_atomic", write_in_place, lambda shop: shop.kills()),
    "no look at what receipts say": (
        "chatfmt.writers.staging",
        "_is_complete",
        lambda *_: True,
        lambda shop: _unsynced(shop),
    ),
}


def _unsynced(shop: Workshop) -> Iterable[Outcome]:
    """Shards are not synced, as on a disk that lies; their receipts are. Reading the shards again would show it."""
    with mock.patch.object(AtomicFile, "sync", lambda file: file._file.close()):
        yield from shop.power_losses(100, 7)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("kills", 60), ("power", 300), ("damages", 2000), ("seed", 1), ("step", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shop = Workshop(folder / "shop")
        good = [
            report("death before every call", shop.kills(step=asked.step)),
            report("every call fails", shop.failures(step=asked.step)),
            report("power losses", shop.power_losses(asked.power, asked.seed)),
            report("kill -9 of a real run", real_kills(folder / "kills", asked.kills, asked.seed)),
            report("one-spot damages", damages(folder / "damages", asked.damages, asked.seed)),
        ]
        for title, (place, attribute, replacement, faults) in ABLATIONS.items():
            target = sys.modules[place] if isinstance(place, str) else place
            with mock.patch.object(target, attribute, replacement):
                good.append(report(title, faults(shop), harm=True))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
