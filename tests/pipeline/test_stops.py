"""Interrupted conversions: no partial output, no process left, one line, the right exit code, the same bytes later."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatfmt import manifest, writers

from ..conftest import run_process, succeed
from .test_convert import tree, write_jsonl

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")

ROWS = [
    {"messages": [{"role": role, "content": f"{number} {turn}"} for turn in range(4) for role in ("user", "assistant")]}
    for number in range(2_000)
]
OPTIONS = ["-t", "chatml", "--engine", "jinja", "--format", "jsonl", "--rows-per-shard", "200", "--workers", "2"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("input") / "in.jsonl", ROWS)


@pytest.fixture(scope="module")
def expected(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], dict[str, str]]:
    """The bytes of runs that nobody stopped, by their further options."""
    made = {}
    for more in MORE:
        out = tmp_path_factory.mktemp("expected") / "out"
        assert run_process("convert", source, *OPTIONS, *more, "-o", out).returncode == 0
        made[more] = tree(out)
    return made


MORE: tuple[tuple[str, ...], ...] = ((), ("--shuffle", "--dedup"))


def start(source: str, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "chatfmt", "convert", source, *OPTIONS, *more, "-o", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(run: subprocess.Popen[bytes], out: Path, receipts: int) -> None:
    """Return when so many shards or parts are whole, or the run is over."""
    end = time.monotonic() + 60
    while run.poll() is None and time.monotonic() < end:
        if len(list((out / ".chatfmt").glob("**/receipts/*.json"))) >= receipts:
            return
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """The processes below a process, with theirs."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    own = [int(child) for path in found for child in path.read_text().split()]
    return [*own, *(below for child in own for below in children(child))]


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (OSError, IndexError):
        return False


def pauses(seed: int) -> Iterator[tuple[int, float]]:
    """After how many shards to strike, and how long after that, later each time."""
    chance = random.Random(seed)
    for receipts in (1, 6):
        yield receipts + chance.randrange(2), chance.random() * 0.05


@pytest.mark.parametrize("more", MORE)
def test_killed_at_any_moment_it_leaves_no_process_and_resumes_to_the_same_bytes(tmp_path, source, expected, more):
    out, killed = tmp_path / "out", 0
    for receipts, pause in pauses(len(more)):
        run = start(source, out, *more, "--resume")
        wait_for(run, out, receipts)
        time.sleep(pause)
        workers = children(run.pid)
        run.kill()
        run.communicate()
        killed += run.returncode == -signal.SIGKILL
        assert gone(workers)
        assert not (out / ".chatfmt/manifest.json").exists() or manifest.verify(out) == []
    assert killed == 2
    succeed(run_process("convert", source, *OPTIONS, *more, "-o", out, "--resume"))
    assert tree(out) == expected[more] and manifest.verify(out) == []


@pytest.mark.parametrize(
    ("number", "code", "line", "more"),
    [
        (signal.SIGINT, 130, "error: interrupted\n", MORE[0]),
        (signal.SIGTERM, 143, "error: stopped by SIGTERM\n", MORE[1]),
    ],
)
def test_a_signal_ends_it_with_one_line_and_a_folder_to_resume(tmp_path, source, expected, number, code, line, more):
    out = tmp_path / "out"
    run = start(source, out, *more)
    wait_for(run, out, 2)
    workers = children(run.pid)
    run.send_signal(number)
    stdout, stderr = run.communicate(timeout=30)
    kept = len(list((out / ".chatfmt").glob("**/receipts/*.json")))
    told = f"note: finished shards of `{out}` that are kept: {kept}; the same command with --resume continues"
    assert (run.returncode, stdout, stderr.decode()) == (code, b"", f"{told}\n{line}")
    assert len(workers) == 3 and gone(workers)  # two, and the process that forks them
    again = run_process("convert", source, *OPTIONS, *more, "-o", out)
    assert (again.returncode, again.stderr.decode().splitlines()) == (5, [
        f"error: `{out}` holds an interrupted conversion",
        "hint: continue it with `--resume`, or start again with `--overwrite`",
    ])  # fmt: skip
    assert run_process("convert", source, *OPTIONS, *more, "-o", out, "--resume").returncode == 0
    assert tree(out) == expected[more]


def test_a_second_sigterm_during_exit_changes_nothing():
    """`timeout` sends it twice: to the process, and to its group."""
    code = """if True:
        import atexit, os, signal
        from chatfmt import __main__
        from chatfmt.cli import app
        terminate = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
        app.command_line = lambda *first: terminate
        atexit.register(terminate)
        __main__.main()
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (143, "", "error: stopped by SIGTERM\n")


@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [
        ("> /dev/full", 5, ["error: cannot write `stdout`: the disk is full"]),
        (">&-", 5, ["error: stdout is closed", "hint: name a file or a folder with `--out`"]),
        ("| head -c 5 > /dev/null; exit ${PIPESTATUS[0]}", 141, []),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_stdout_that_cannot_be_written(source, redirect, code, said, unbuffered):
    command = f'"$0" -m chatfmt convert "$@" {redirect}'
    more = MORE[1] if unbuffered else ()
    arguments = [sys.executable, source, "-t", "chatml", "--limit", "2000", "-q", *more]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    run = subprocess.run(["bash", "-c", command, *arguments], capture_output=True, text=True, timeout=60, env=env)
    assert (run.returncode, run.stdout) == (code, "")
    assert run.stderr.splitlines()[: len(said)] == said and len(run.stderr.splitlines()) <= 2


class Sip(io.RawIOBase):
    """A stream that takes three bytes at a time, as a pipe may that nothing buffers."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        self.taken += bytes(data[:3])
        return len(data[:3])


def test_a_stream_that_takes_a_part_is_given_the_rest():
    sip = Sip()
    assert writers.Stream(sip).write(b"abcdefgh") == 8
    assert sip.taken == b"abcdefgh"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path, source):
    (tmp_path / "closed").mkdir(mode=0o500)
    run = run_process("convert", source, "-t", "chatml", "-o", tmp_path / "closed" / "out")
    assert (run.returncode, run.stderr.decode().splitlines()[0]) == (
        5, f"error: cannot write `{tmp_path}/closed/out/.chatfmt`: permission denied",
    )  # fmt: skip
