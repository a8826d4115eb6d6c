"""Whole commands that are killed at any step: the next run gives the same bytes and removes all that was left."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from chatfmt.cli import main

from ..conftest import files, run_here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork is killed")
TURNS = '{"messages":[{"role":"user","content":"hi %d"},{"role":"assistant","content":"yo"}]}\n'
ROWS = "".join(TURNS % number for number in range(9)) + "not JSON\n"
STEPS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "fcntl.flock"}
SKIP = ("--on-error", "skip", "--max-bad", "50%")
RUNS = {
    "file": ("convert", "in.jsonl.gz", "-o", "out.jsonl", "--rows-per-shard", "4", *SKIP),
    "rejects elsewhere": ("convert", "in.jsonl.gz", "-o", "out.parquet", "--rejects", "elsewhere/bad.jsonl", *SKIP),
    "folder": ("convert", "in.jsonl.gz", "-t", "chatml", "-o", "out", "--rows-per-shard", "4", *SKIP),
    "grouped": ("convert", "turns.jsonl", "--group-by", "c", "-o", "out.jsonl"),
}


def made(folder: Path) -> Path:
    (folder / "elsewhere").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "in.jsonl.gz").write_bytes(gzip.compress(ROWS.encode(), mtime=0))
    (folder / "turns.jsonl").write_text(
        '{"c":1,"role":"user","content":"hi"}\n{"c":1,"role":"assistant","content":"yo"}\n'
    )
    return folder


def killed_at(step: int, command: Sequence[str], folder: Path) -> bool:
    """Run a command in a fork that kills itself at its n-th step; return whether it was killed."""
    if (pid := os.fork()) == 0:
        left = step

        def hook(event: str, arguments: object) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        sys.addaudithook(hook)
        os._exit(main([*command, "--executor", "serial"]))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_leaves_nothing_that_the_next_one_does_not_use_or_remove(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    command, step, stride, left = RUNS[name], 1, 1 if request.config.getoption("--full") else 13, 0
    wanted = made(tmp_path / "wanted")
    monkeypatch.setattr(tempfile, "tempdir", str(wanted / "tmp"))
    assert run_here(*command, cwd=wanted).returncode == 0
    while True:
        folder = made(tmp_path / str(step))
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        before = files(folder)
        if not killed_at(step, command, folder):
            break
        left += files(folder) != before
        again = run_here(*command, "--resume", cwd=folder)
        if again.returncode:  # killed before the run had begun here: what the error says to do then
            assert b"--overwrite" in again.stderr
            again = run_here(*command, "--overwrite", cwd=folder)
        assert again.returncode == 0, (step, again.stderr)
        assert files(folder) == files(wanted), step
        assert list((folder / "tmp").iterdir()) == []
        step += stride
    assert step > 40 and left > 1


def test_sigterm_while_the_process_forks_stops_it(tmp_path: Path) -> None:
    """Python drops what is raised in functions that it calls at a fork."""
    (tmp_path / "in.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n')
    code = (
        "import os, signal, sys; from chatfmt.cli.app import main; sent = []\n"
        "os.register_at_fork(before=lambda: sent or sent.append(1) or os.kill(os.getpid(), signal.SIGTERM))\n"
        "sys.exit(main(['convert', 'in.jsonl', '-t', 'chatml', '-o', 'out', '--workers', '2']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "error: stopped by SIGTERM\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
