"""`inspect` on mapped data: the source columns that are used, and a command that converts what was inspected."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from ..conftest import run_cli, succeed, write_rows

ROWS = [{"ask": f"q{n}", "reply": f"a{n}", "n": n, "prompt": "other", "topic": "t"} for n in range(3)]
CSV = "q0|a0|x\nq1|a1|y\n"


def inspected(*arguments: str, cwd: Path) -> dict[str, object]:
    run = succeed(run_cli("inspect", *arguments, "--json", cwd=cwd))
    return dict(json.loads(run.stdout))


def test_the_columns_that_a_mapping_reads_are_used(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    flags = ("--map", "prompt=ask", "--map", "completion={{ reply }}!", "--where", "n > 0")
    found = inspected("in.jsonl", *flags, cwd=tmp_path)["detection"]
    assert isinstance(found, dict)
    assert (found["used"], found["unused"]) == (["ask", "reply", "n"], ["prompt", "topic"])
    assert "prompt: `ask`, completion: `{{ reply }}!`" in found["reason"]


CASES = {
    "in.jsonl": ("--map", "user=ask", "--map", "assistant={{ reply }}", "--where", "n > 0", "--keep", "topic"),
    "in.csv": ("--no-header", "--delimiter", "|", "--no-quote", "--map", "user=column1", "--map", "assistant=column2"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_converts_what_was_inspected(name: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "in.csv").write_text(CSV)
    printed = inspected(name, *CASES[name], cwd=tmp_path)["command"]
    words = shlex.split(str(printed))
    assert words[:3] == ["chatfmt", "convert", name] and words[-4:-1] == ["-t", "chatml", "-o"]
    assert words[3:-4] == list(CASES[name]) or sorted(words[3:-4]) == sorted(CASES[name])
    asked = run_cli("convert", name, *CASES[name], "-t", "chatml", cwd=tmp_path)
    again = run_cli(*words[1:-2], cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, asked.stdout) and asked.stdout.count(b"\n") == 2


def test_the_dialect_is_that_of_the_rows_that_are_kept(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}, *({"question": f"q{n}", "answer": None} for n in range(5))]
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_cli("convert", "in.jsonl", "--where", "answer is not none", "-q", cwd=tmp_path)
    turns = b'[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]'
    assert (run.returncode, run.stdout, run.stderr) == (0, b'{"messages":' + turns + b"}\n", b"")


ASKED = {"role": "user", "content": "q"}
CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
RENDERED: dict[str, tuple[dict[str, object], list[str]]] = {
    "turns": ({"messages": [ASKED, {"role": "assistant", "content": "a"}]}, ["-t", "chatml"]),
    "tools": ({"messages": [ASKED], "tools": [{"name": "f"}]}, ["-t", "qwen3", "--fit"]),
    "calls": ({"messages": [ASKED, {"role": "assistant", "tool_calls": [CALL]}]}, ["-t", "qwen3", "--fit"]),
    "thought": ({"messages": [ASKED, {"role": "assistant", "content": "", "thinking": "b"}]}, ["-t", "qwen3", "--fit"]),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}, ["-t", "chatml", "--fit"]),
    "text": ({"text": "Once."}, []),
}  # fmt: skip


@pytest.mark.parametrize("kind", RENDERED)
def test_the_command_names_a_template_that_takes_the_data(kind: str, tmp_path: Path) -> None:
    row, flags = RENDERED[kind]
    write_rows(tmp_path / "in.jsonl", [row])
    words = shlex.split(str(inspected("in.jsonl", cwd=tmp_path)["command"]))
    assert words == ["chatfmt", "convert", "in.jsonl", *flags, "-o", f"in-{flags[1] if flags else 'text'}/"]
    succeed(run_cli(*words[1:], cwd=tmp_path))
