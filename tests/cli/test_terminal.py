"""What reaches a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from ..conftest import EVERYDAY, ROOT, run_cli, write_rows


def test_untrusted_text_cannot_reach_the_terminal(tmp_path):
    row = {
        "messages": [
            {"role": "user", "content": "a\x1b]0;pwned\x07\u202eb[bold]c[/bold]"},
            {"role": "r\x1b[31m", "content": "x"},
        ]
    }
    write_rows(tmp_path / "in.jsonl", [row])
    for command in (["preview", "-t", "chatml"], ["check"], ["inspect"], ["convert", "-o", str(tmp_path / "o.jsonl")]):
        run = run_cli(command[0], "in.jsonl", *command[1:], cwd=tmp_path)
        assert b"\x1b" not in run.stdout + run.stderr and "\u202e" not in (run.stdout + run.stderr).decode(), command
    assert "[bold]c[/bold]" in run_cli("preview", "in.jsonl", cwd=tmp_path).stdout.decode()


def test_progress_on_a_terminal_leaves_the_data_alone(tmp_path):
    """Rich's own progress would swallow stdout; here stderr is a terminal and stdout a file."""
    expected = run_cli("convert", EVERYDAY, "-t", "chatml").stdout
    parent, child = pty.openpty()
    with (tmp_path / "out").open("wb") as out:
        run = subprocess.Popen(
            [sys.executable, "-m", "chatfmt", "convert", str(EVERYDAY), "-t", "chatml", "-o", "-"],
            stdout=out, stderr=child, cwd=ROOT,
        )  # fmt: skip
        os.close(child)
        shown = b""
        try:
            while chunk := os.read(parent, 4096):
                shown += chunk
        except OSError:
            pass
        assert run.wait(60) == 0
    assert (tmp_path / "out").read_bytes() == expected and b"wrote 12 rows" in shown
