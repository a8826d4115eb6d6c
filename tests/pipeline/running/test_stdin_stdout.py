"""Rows from stdin to stdout."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ...conftest import EVERYDAY, from_lines, run_cli, said


def test_data_alone_goes_to_stdout():
    run = run_cli("convert", EVERYDAY, "-t", "chatml", "--limit", "2")
    rows = from_lines(run.stdout.decode())
    assert [list(row) for row in rows] == [["text"], ["text"]]
    wrote = f"wrote 2 rows to stdout, {len(run.stdout)} B"
    assert said(run) == [wrote, "left behind: topic (text); --keep all carries it"]
    assert said(run_cli("convert", EVERYDAY, "-t", "chatml", "-q")) == []


def test_stdin_gives_the_same_output_as_a_file():
    expected = run_cli("convert", EVERYDAY, "-t", "qwen3").stdout
    assert expected and run_cli("convert", "-", "-t", "qwen3", stdin=EVERYDAY.read_bytes()).stdout == expected


@pytest.mark.parametrize(
    "flags",
    ["--max-tokens 5", "--split-by topic", "--tokens-from x", "--pack 5", "--shard-name x", "--mask", "--tokenizer x"],
)
def test_stdin_refuses_the_options_that_a_file_refuses(flags):
    file = run_cli("convert", EVERYDAY, *flags.split())
    stdin = run_cli("convert", "-", *flags.split(), stdin=EVERYDAY.read_bytes())
    assert (stdin.returncode, stdin.stdout, stdin.stderr) == (2, b"", file.stderr)


def test_a_pipe_ends_quietly_and_streams():
    feed = f'{sys.executable} -c "import sys\nd = open(sys.argv[1]).read()\nwhile True: sys.stdout.write(d)" {EVERYDAY}'
    command = f"{feed} 2>/dev/null | {sys.executable} -m chatfmt convert - -t chatml | head -5; echo ${{PIPESTATUS[1]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    lines = run.stdout.decode().splitlines()
    assert (len(lines), lines[-1], run.stderr) == (6, "141", b"")


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"prompt": "p", "completion": "c"}, [{"prompt": "p", "completion": "c"}]),
        ({"question": ["p", "q"], "answer": ["c", "d"]}, [{"messages": "pc"}, {"messages": "qd"}]),
    ],
)
def test_one_json_object_through_a_pipe(document, rows):
    done = run_cli("convert", "-", stdin=json.dumps(document, indent=1) + "\n")
    made = [{key: "".join(turn["content"] for turn in value) for key, value in json.loads(line).items()}
            for line in done.stdout.splitlines()]  # fmt: skip
    assert (done.returncode, made) == (0, rows)
    assert done.stderr.startswith(b"note: the JSON object is read as ")


def test_an_object_of_columns_and_one_record_are_read_with_a_template_as_without(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "columns.json").write_text(json.dumps({"question": ["q", "q"], "answer": ["a", "a"]}, indent=1))
    (tmp_path / "record.json").write_text(json.dumps({"messages": turns}, indent=1))
    text = {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"}
    for name, rows in (("columns", 2), ("record", 1)):
        run = run_cli("convert", f"{name}.json", "-t", "chatml", "-q", cwd=tmp_path)
        assert (run.returncode, from_lines(run.stdout)) == (0, [text] * rows)


def test_rejects_of_a_pipe_are_written_while_it_gives_bad_rows_alone(tmp_path):
    good, bad = ({"messages": [{"role": role, "content": "a"}]} for role in ("user", "narrator"))
    command = [sys.executable, "-m", "chatfmt", "convert", "-", "-t", "gemma", "--rejects", "bad.jsonl", "--on-error"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "skip", "--max-bad", "100%"], cwd=tmp_path, **pipes) as run:
        run.stdin.write(f"{json.dumps(good)}\n".encode())
        for _ in range(100):
            run.stdin.write(f"{json.dumps(bad)}\n".encode() * 1000)
            if written := [file.name for file in tmp_path.iterdir() if file.stat().st_size]:
                break
        output, _ = run.communicate(timeout=60)
    assert [name[:11] for name in written] == [".bad.jsonl."]
    assert (run.returncode, output) == (0, b'{"text":"<bos><start_of_turn>user\\na<end_of_turn>\\n"}\n')
    assert [file.name for file in tmp_path.iterdir()] == ["bad.jsonl"]
