"""Machines that run short: unreadable disks, no more threads, processes or memory, killed sandbox processes."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import exhausted
from chatfmt.executors import pool
from chatfmt.render.sandbox import process, sessions
from chatfmt.sources.bytes import compression

from ..conftest import run_cli, run_here

ROW = '{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}\n'
TEMPLATE = "{% for turn in messages %}{{ turn.content }}{% endfor %}"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_text(ROW * 300)
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    return tmp_path


class Broken(io.BufferedReader):
    """A file on a disk that breaks after so many reads of any file."""

    left = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if Broken.left == 0:
            raise OSError(errno.EIO, "Input/output error")
        Broken.left -= 1
        return super().read(size)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.csv", "in.json"])
def test_a_disk_that_breaks(name: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "in.csv").write_text("prompt,completion\na,b\n")
    (work / "in.json").write_text(f"[{ROW}]")
    subprocess.run(["gzip", "-k", "in.jsonl"], cwd=work, check=True)
    monkeypatch.setattr(compression, "open_binary", lambda uri: Broken(io.FileIO(uri)))
    reads = 0
    while True:
        Broken.left = reads
        run = run_here("convert", name, "-o", "out.jsonl", cwd=work)
        if run.returncode == 0:
            break
        said, _, rest = run.stderr.decode().partition(": cannot be read: Input/output error (byte ")
        assert (run.returncode, Path(said).name.removeprefix("error: ")) == (3, name), run.stderr
        assert reads < 20
        assert rest.endswith(")\nhint: check the disk, and try again\n") and not (work / "out.jsonl").exists()
        reads += 1
    assert reads >= 3


def test_a_stdin_that_cannot_be_read(work: Path) -> None:
    folder = os.open(work, os.O_RDONLY)
    code = "import os; from chatfmt.__main__ import main; os.dup2(int(os.environ['FD']), 0); main()"
    for out in ("-", "out.jsonl"):
        run = subprocess.run(
            [sys.executable, "-c", code, "convert", "-", "-o", out], env={**os.environ, "FD": str(folder)}, cwd=work,
            capture_output=True, pass_fds=[folder], stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (run.returncode, run.stderr.splitlines()[0]) == (3, b"error: -: cannot be read: Is a directory (byte 0)")
    os.close(folder)


def test_rows_beyond_the_limit_of_a_row(work: Path) -> None:
    (work / "long.jsonl").write_text(ROW.replace("hi", "x" * 3_000_000))
    (work / "long.csv").write_text(f"prompt,completion\n{'x' * 3_000_000},b\n")
    for name, row in (("long.jsonl", "line 1"), ("long.csv", "line 2")):
        run = run_here("convert", name, "-o", "out.jsonl", "--max-row-bytes", "1MiB", cwd=work)
        first, hint = run.stderr.decode().splitlines()
        assert run.returncode == 4 and "the record is longer than 1048576 bytes" in first and row in first
        assert hint == "hint: --max-row-bytes 2MiB reads longer ones"
        done = run_here("convert", name, "-o", "out.jsonl", "--max-row-bytes", "4MiB", "--overwrite", cwd=work)
        assert done.returncode == 0, done.stderr


NO_THREADS = (
    "error: the system starts no more threads or processes\n"
    "hint: raise the limits (`ulimit -u`, `ulimit -v`), or use fewer `--workers`, then run again with `--resume`\n"
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("can't start new thread"), "the system starts no more threads or processes"),
        (
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            "the system starts no more threads or processes",
        ),
        (MemoryError(), "out of memory"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
        (ImportError("libarrow.so: failed to map segment from shared object"), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (RuntimeError("something else"), None),
        (ValueError("x"), None),
    ],
)
def test_what_counts_as_short_of_resources(error: Exception, message: str | None) -> None:
    found = exhausted(error)
    assert (found and found.message) == message
    assert found is None or (found.exit_code == 5 and "--resume" in found.hint)


@pytest.mark.parametrize("allowed", [0, 3])
def test_a_system_that_starts_so_many_threads(allowed: int, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either the run gets by with fewer, or one line says it, and the run resumes to the same bytes."""
    start, left = threading.Thread.start, allowed

    def limited(thread: threading.Thread) -> None:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    command = ("convert", "in.jsonl", "-t", "t.jinja", "-o", "out", "--rows-per-shard", "99")
    monkeypatch.setattr(threading.Thread, "start", limited)
    run = run_here(*command, cwd=work)
    monkeypatch.undo()
    assert (run.returncode, run.stderr.decode()) == (5, NO_THREADS) or run.returncode == 0
    assert (run.returncode == 0) is (work / "out" / "data").exists()
    assert run_here(*command, "--resume", "-q", cwd=work).returncode == 0
    wanted = run_here(*command[:5], "wanted", *command[6:], cwd=work)
    assert wanted.returncode == 0
    assert contents(work / "out" / "data") == contents(work / "wanted" / "data")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_pool_goes_on_with_the_threads_that_start(monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, 1

    def limited(thread: threading.Thread) -> None:
        nonlocal left
        if thread._target.__name__ == "_serve":  # type: ignore[attr-defined]
            if left == 0:
                raise RuntimeError("can't start new thread")
            left -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    made = pool.Pool(3)
    try:
        assert list(made.run(len, ["a", "bb", "ccc"], lambda task, position: None)) == [1, 2, 3]
    finally:
        made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits nothing elsewhere")
@pytest.mark.parametrize("megabytes", [300, 450])
def test_a_limit_of_address_space(megabytes: int, work: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("takes seconds: --full")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    command = [sys.executable, "-m", "chatfmt", "convert", "in.jsonl", "-t", "t.jinja", "-o", "out"]
    run = subprocess.run(command, cwd=work, preexec_fn=limit, capture_output=True)
    assert run.returncode in (0, 5) and b"Traceback" not in run.stderr, run.stderr


def killing(nth: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Kill the sandbox process before its n-th request; return how many requests there were."""
    asked, request = 0, process.SandboxProcess.request

    def killed(self: process.SandboxProcess, body: bytes, answers: int, *is_valid: Callable[[Any], bool]) -> list[Any]:
        nonlocal asked
        asked += 1
        if asked == nth:
            self._process.kill()
            self._process.wait()
        return request(self, body, answers, *is_valid)

    monkeypatch.setattr(process.SandboxProcess, "request", killed)
    return lambda: asked


def test_a_sandbox_process_that_is_killed_at_any_request(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("convert", "in.jsonl", "-t", "t.jinja", "--engine", "jinja", "-o", "out", "--overwrite", "-q")
    assert run_here(*command, cwd=work).returncode == 0
    wanted = contents(work / "out" / "data")
    for nth in (1, 9):
        process.close_idle()
        with pytest.MonkeyPatch.context() as patch:
            asked = killing(nth, patch)
            run = run_here(*command, cwd=work)
        assert (run.returncode, run.stderr) == (0, b"")
        assert contents(work / "out" / "data") == wanted
        assert asked() > nth


def test_weak_isolation_is_said(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("convert", "in.jsonl", "-t", "t.jinja", "-o", "out", "--overwrite")
    said = run_here(*command, "--template-isolation", "off", cwd=work).stderr.decode()
    untrusted, guide = (
        "note: the template `t.jinja` is untrusted and",
        "`chatfmt guide security` says what it could do\n",
    )
    assert said.startswith(f"{untrusted} runs in this process (`--template-isolation off`): {guide}")
    assert isolation(work) == "none"
    assert "untrusted" not in run_here(*command, cwd=work).stderr.decode()
    monkeypatch.setattr(sessions.SandboxSessions, "level", lambda self, date: "rlimits")
    said = run_here(*command, cwd=work).stderr.decode()
    assert said.startswith(
        f"{untrusted} this machine isolates it by `rlimits` only, not by `seccomp+landlock`: {guide}"
    )
    chatml = run_here("convert", "in.jsonl", "-t", "chatml", "--template-isolation", "off", "-o", "x", cwd=work)
    assert b"untrusted" not in chatml.stderr


def isolation(work: Path) -> str:
    manifest = json.loads((work / "out" / ".chatfmt" / "manifest.json").read_text())
    return str(manifest["engine"]["isolation"])


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="needs a small file system")
def test_a_full_folder_for_temporary_files(work: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full") or shutil.which("unshare") is None:
        pytest.skip("mounts a small file system: --full")
    (work / "tmp").mkdir()
    (work / "in.jsonl").write_text(ROW * 20000)
    subprocess.run(["gzip", "in.jsonl"], cwd=work, check=True)
    command = f"mount -t tmpfs -o size=200k none tmp && TMPDIR=tmp {sys.executable} -m chatfmt"
    shuffle = f"{command} convert in.jsonl.gz --shuffle -o -"
    run = subprocess.run(["unshare", "-m", "sh", "-c", shuffle], cwd=work, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (
        5,
        f"error: cannot write temporary files to `{work / 'tmp'}`: the disk is full\n"
        "hint: free some space there, or choose another folder with TMPDIR=DIR\n",
    )
    assert run_cli("convert", "in.jsonl.gz", "-o", "x", cwd=work).returncode == 0
