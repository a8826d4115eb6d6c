"""What reaches a terminal; text of the data that it would obey is in `hostile/terminal_cases.py`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress
from typing import IO

from ..conftest import EVERYDAY, ROOT, run_cli, write_rows


def test_progress_on_a_terminal_leaves_the_data_alone(tmp_path):
    """Rich's own progress would swallow stdout; here stderr is a terminal and stdout a file."""
    expected = run_cli("convert", EVERYDAY, "-t", "chatml").stdout
    with (tmp_path / "out").open("wb") as out:
        shown = shown_on_a_terminal("convert", str(EVERYDAY), "-t", "chatml", "-o", "-", out=out)
    assert (tmp_path / "out").read_bytes() == expected and b"wrote 12 rows" in shown


def shown_on_a_terminal(*arguments: str, out: IO[bytes] | None = None) -> bytes:
    """Return what a command shows on a terminal of 60 columns, on which its stdout is too if `out` is None."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, 60))
    command = [sys.executable, "-m", "chatfmt", *arguments]
    run = subprocess.Popen(command, stdout=out or child, stderr=child, cwd=ROOT, env={**os.environ, "TERM": "xterm"})
    os.close(child)
    shown = b""
    with suppress(OSError):
        while chunk := os.read(parent, 4096):
            shown += chunk
    assert run.wait(60) == 0
    return shown


def test_the_names_of_what_is_left_behind_are_not_broken(tmp_path):
    names = [f"a_rather_long_column_of_the_source_{number}" for number in range(4)]
    write_rows(tmp_path / "in.jsonl", [{"question": "q", "answer": "a", **dict.fromkeys(names, "x")}])
    listed = f"left behind: {names[0]} (text),\r\n" + "".join(f"  {name} (text),\r\n" for name in names[1:3])
    listed += f"  {names[3]} (text); --keep all\r\n  carries them\r\n"
    for command in (["inspect"], ["check"], ["convert", "-o", str(tmp_path / "o.jsonl")]):
        shown = shown_on_a_terminal(command[0], str(tmp_path / "in.jsonl"), *command[1:])
        assert listed in shown.decode(), command


def test_a_template_has_the_lines_of_its_file_on_a_terminal():
    colour = re.compile(rb"\x1b\[[\d;]*m")
    shown = colour.sub(b"", raw := shown_on_a_terminal("templates", "show", "qwen3"))
    assert raw != shown
    assert shown.replace(b"\r\n", b"\n") == run_cli("templates", "show", "qwen3").stdout


def test_tables_in_a_pipe_have_the_width_of_columns():
    for width in ("60", "140"):
        table = (
            run_cli("inspect", EVERYDAY, env={"COLUMNS": width}).stdout.decode().split("dialect:")[0].splitlines()[1:]
        )
        assert 40 < max(map(len, table)) <= int(width)


def test_a_long_name_is_cut_in_an_error_with_blanks_or_without(tmp_path):
    write_rows(tmp_path / "train.jsonl", [{"prompt": "a", "completion": "b"}])
    for name in ("x" * 5000, "x " * 2500):
        (tmp_path / "README.md").write_text(f"---\nconfigs: [{{data_files: '{name}'}}]\n---\n")
        error = run_cli("convert", tmp_path).stderr.decode().splitlines()[0]
        assert error.startswith(f"error: no file in `{tmp_path}` matches `{name[:150]}") and len(error) < 900
        assert error.endswith(f"{name[-150:]}`") and " … " in error
