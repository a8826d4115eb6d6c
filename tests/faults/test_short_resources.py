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

from chatfmt.cli.app import main
from chatfmt.errors import exhausted
from chatfmt.executors import pool
from chatfmt.render.sandbox import process, sessions
from chatfmt.sources.bytes import compression
from chatfmt.writers import durable

from ..conftest import run_cli, run_here, succeed

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
        said = b"error: stdin: cannot be read: Is a directory (byte 0)"
        assert (run.returncode, run.stderr.splitlines()[0]) == (3, said)
    os.close(folder)


def test_rows_beyond_the_limit_of_a_row(work: Path) -> None:
    (work / "long.jsonl").write_text(ROW.replace("hi", "x" * 3_000_000))
    (work / "long.csv").write_text(f"prompt,completion\n{'x' * 3_000_000},b\n")
    for name, row in (("long.jsonl", "line 1"), ("long.csv", "line 2")):
        run = run_here("convert", name, "-o", "out.jsonl", "--max-row-bytes", "1MiB", cwd=work)
        first, hint = run.stderr.decode().splitlines()
        assert run.returncode == 4 and "the record is longer than 1048576 bytes" in first and row in first
        assert hint == "hint: --max-row-bytes 2MiB reads longer ones"
        succeed(run_here("convert", name, "-o", "out.jsonl", "--max-row-bytes", "4MiB", "--overwrite", cwd=work))


NO_THREADS = (
    "error: the system starts no more threads or processes\n"
    "hint: raise the limits (`ulimit -u`, `ulimit -v`), or use fewer `--workers`, then run again\n"
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
        (OSError(errno.EMFILE, "Too many open files"), "too many files are open"),
        (OSError(errno.ENFILE, "Too many open files in system"), "too many files are open on this machine"),
        (ValueError("x"), None),
    ],
)
def test_what_counts_as_short_of_resources(error: Exception, message: str | None) -> None:
    found = exhausted(error)
    assert (found and found.message) == message
    assert found is None or (found.exit_code == 5 and found.hint.endswith(", then run again"))


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
    succeed(run_here(*command[:5], "wanted", *command[6:], cwd=work))
    assert contents(work / "out" / "data") == contents(work / "wanted" / "data")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in sorted(folder.iterdir())}


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
@pytest.mark.parametrize(
    ("megabytes", "codes"), [(300, (0, 5)), (450, (0, 5)), *((most, (0,)) for most in range(1200, 2000, 100))]
)
def test_a_limit_of_address_space(
    megabytes: int, codes: tuple[int, ...], work: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("takes seconds: --full")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    options = ["-t", "t.jinja", "-o", "out", "--workers", "2"]
    command = [sys.executable, "-m", "chatfmt", "convert", "in.jsonl", *options]
    run = subprocess.run(command, cwd=work, preexec_fn=limit, capture_output=True)
    assert run.returncode in codes and b"Traceback" not in run.stderr, run.stderr


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


OUTS = {
    "file": ("-o", "out.jsonl"),
    "folder": ("-o", "out", "--rows-per-shard", "99"),
    "shuffled": ("--shuffle", "-o", "out"),
}
MANY_FILES = "hint: raise the limit with `ulimit -n`, or use fewer `--workers`, then run again"


@pytest.mark.skipif(sys.platform != "linux", reason="a fork has a limit of its own")
@pytest.mark.parametrize("out", OUTS)
def test_so_many_open_files(out: str, work: Path, request: pytest.FixtureRequest) -> None:
    """Either the run gets by, or one line says it, and the folder is clean, or is resumed as the hint says."""
    full = request.config.getoption("--full")
    command = ["convert", "in.jsonl", "-t", "chatml", *OUTS[out], "--executor", "serial"]
    before, codes = contents(work), set()
    for free in range(4, 24, 1 if full else 4):
        code, said = with_free_descriptors(free, command, work)
        codes.add(code)
        if code == 0:
            break
        assert said.startswith("error: ") and "too many files are open\n" in said and said.count("\n") == 2, said
        resumed = said.endswith(f"{MANY_FILES} with `--resume`\n")
        assert resumed or (said.endswith(f"{MANY_FILES}\n") and contents(work) == before), (free, said)
        if resumed:
            assert run_here(*command, "--resume", cwd=work).returncode == 0
            break
    assert 5 in codes


def with_free_descriptors(free: int, command: list[str], work: Path) -> tuple[int, str]:
    """Run a command in a fork that may open so many more files; return its exit code and what it says."""
    said = work.with_name("stderr")
    if (pid := os.fork()) == 0:
        os.chdir(work)
        os.closerange(3, 256)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.closerange(3, 4)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_NOFILE, (3 + free, 3 + free))
        code = main(command)
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.read_text()


def test_a_disk_that_is_full_after_some_shards(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names `--resume` only where there is something to resume."""
    command = ("convert", "in.jsonl", "-t", "chatml", "-o", "out", "--rows-per-shard", "99")
    for whole_shards in (0, 2):
        left, write = whole_shards, durable.OutputFile.write

        def full(file: durable.OutputFile, data: bytes | memoryview) -> int:
            nonlocal left
            if b"PAR1" in bytes(data[:4]):
                left -= 1
            if left < 0:
                with durable.explain_errors("out"):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable.OutputFile, "write", full)
            run = run_here(*command, cwd=work)
        resume = " with `--resume`" if whole_shards else ""
        says = f"error: cannot write `out`: the disk is full\nhint: free some space, then run again{resume}\n"
        assert (run.returncode, run.stderr.decode()) == (5, says)
        assert (work / "out").exists() == bool(whole_shards)
    assert run_here(*command, "--resume", cwd=work).returncode == 0
