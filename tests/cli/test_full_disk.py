"""Reports to a full disk or a closed stdout: every command prints one line and exits with code 5."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..conftest import ROOT, run_process

EVERYDAY = str(ROOT / "tests" / "data" / "everyday.jsonl")
COMMANDS = [
    "--version", "--help", "convert --help", "templates list", "templates show chatml", "templates probe chatml",
    "recipes list", "recipes show gsm8k", "transforms", f"inspect {EVERYDAY}", f"check {EVERYDAY}",
    f"convert {EVERYDAY}", f"convert {EVERYDAY} --dry-run", f"convert {EVERYDAY} -o out --json",
]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command: str, tmp_path: Path) -> None:
    run = run_process(*command.split(), cwd=tmp_path, stdout="/dev/full")
    said = run.stderr.decode()
    assert run.returncode == 5, said
    assert said.startswith("error: ") and len(said.splitlines()) <= 2, said


@pytest.mark.skipif(sys.platform == "win32", reason="the shell is not sh")
@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "--version" and "--help" not in one])
def test_a_closed_stdout(command: str, tmp_path: Path) -> None:
    run = run_process(*command.split(), cwd=tmp_path, stdout="closed")
    said = run.stderr.decode()
    assert run.returncode == 5, said
    assert said.startswith("error: stdout is closed\nhint: ") and len(said.splitlines()) == 2, said
