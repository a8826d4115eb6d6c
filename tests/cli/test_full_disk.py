"""Reports to a full disk or a closed stdout: every command prints one line and exits with code 5."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT

EVERYDAY = str(ROOT / "tests" / "data" / "everyday.jsonl")
COMMANDS = [
    "--version", "--help", "convert --help", "templates list", "templates show chatml", "templates probe chatml",
    "recipes list", "recipes show gsm8k", "transforms", f"inspect {EVERYDAY}", f"check {EVERYDAY}",
    f"convert {EVERYDAY}", f"convert {EVERYDAY} --dry-run", f"convert {EVERYDAY} -o out --json",
]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command, tmp_path):
    run = subprocess.run(
        f"{sys.executable} -m chatfmt {command} > /dev/full", shell=True, capture_output=True, cwd=tmp_path, text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )  # fmt: skip
    assert run.returncode == 5, run.stderr
    assert run.stderr.startswith("error: ") and len(run.stderr.splitlines()) <= 2, run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the shell is not sh")
@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "--version" and "--help" not in one])
def test_a_closed_stdout(command, tmp_path):
    run = subprocess.run(
        f"{sys.executable} -m chatfmt {command} >&-", shell=True, capture_output=True, cwd=tmp_path, text=True
    )
    assert run.returncode == 5, run.stderr
    assert run.stderr.startswith("error: stdout is closed\nhint: ") and len(run.stderr.splitlines()) == 2, run.stderr
