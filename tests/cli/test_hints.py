"""A hint, followed to the letter, leads to the right rows or to another refusal, never to wrong data.

Every flag, and every command for another program, is parsed out of the hint and run. A name in capitals (COLUMN, KEY,
ROLE) is typed as it stands.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..conftest import from_lines, run_cli, to_lines

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TALK = {"messages": [Q, A]}
PAIR = {"prompt": [Q], "completion": [A]}


def lines(*rows: Any) -> str:
    return to_lines(rows)


def text(*rows: str) -> list[Any]:
    return [{"text": row} for row in rows]


CASES: dict[str, tuple[str, str | bytes, list[list[Any]]]] = {
    "an id beside a prompt": ("a.jsonl", lines({"prompt": "q", "gold": "a b c", "uid": "x1"}), [[{"prompt": [Q]}]]),
    "a question and something that answers it": (
        "a.jsonl", lines({"question": "q", "canonical_solution": "a", "n": 1}), [[TALK], [{"prompt": [Q]}]],
    ),
    "choices without a name": ("a.jsonl", lines({"question": "q", "first": "x", "second": "y", "right": 1}), [
        [{"prompt": [Q]}],
    ]),
    "a number": ("a.jsonl", lines({"question": "q", "answer": 4}), [
        [{"messages": [Q, {**A, "content": "4"}]}],
    ]),
    "a list of answers": ("a.jsonl", lines(*({"question": "q", "answer": some} for some in (["a", "b"], ["c"]))), [
        [{"messages": [Q, {**A, "content": each}]} for each in "abc"],
    ]),
    "an object as the answer": ("a.jsonl", lines({"question": "q", "answer": {"x": 1}}), []),
    "names with quotes": ("a.jsonl", lines({"the user's question": "q", "the reply": "a"}), [[TALK]]),
    "columns that say nothing": ("a.jsonl", lines({"x": "one two", "y": "three four five"}), [text("three four five")]),
    "nested turns": ("a.jsonl", lines({"id": 1, "log": {"messages": [Q, A]}}), [[TALK]]),
    "two conversations": ("a.jsonl", lines({"question": "q", "answer": [[Q, A], [Q, {**A, "content": "b"}]]}), [
        [{"prompt": [Q], "chosen": [A], "rejected": [{**A, "content": "b"}]}],
    ]),
    "rows inside a row": ("a.jsonl", lines({"n": 1, "data": [{"question": "q", "answer": "a"}]}), [[TALK]]),
    "rows of two splits": ("a.jsonl", lines({"train": [{"question": "q", "answer": "a"}], "test": [
        {"question": "q", "answer": "b"},
    ]}), [[TALK], [{"messages": [Q, {**A, "content": "b"}]}]]),
    "pairs beside images": ("a.jsonl", lines({"images": ["https://a.b/c"], "t": [{"user": "q", "assistant": "a"}]}), [
        [{"messages": [{**Q, "content": [{"type": "image"}, {"type": "text", "text": "q"}]}, A],
          "images": ["https://a.b/c"]}],
    ]),
    "columns in a row": ("a.jsonl", lines({"question": ["q", "q"], "answer": ["a", "a"]}), [[TALK, TALK]]),
    "keys of other names": ("a.jsonl", lines({"dialog": [{"who": "x", "said": "q"}]}), []),
    "a turn a row": ("a.jsonl", lines({"id": 1, "n": 0, **Q}, {"id": 1, "n": 1, **A}), []),
    "a log": ("a.jsonl", lines({"type": "user", "message": Q, "uuid": "1"}, {"type": "assistant", "message": A}), []),
    "a transcript": ("a.jsonl", lines({"log": "Human: q\nAssistant: a"}), [[TALK]]),
    "a transcript of people": ("a.jsonl", lines({"log": "Ann: hi you\nBob: hi too"}), [
        text("Ann: hi you\nBob: hi too"),
    ]),
    "a text where a role belongs": ("a.jsonl", lines({"messages": [Q, {**A, "role": "robot " * 99}]}), []),
    "an unknown role": ("a.jsonl", lines({"messages": [Q, {**A, "role": "robot"}]}), []),
    "an environment": ("a.jsonl", lines({"messages": [Q, A, {"role": "environment", "content": "r"}, A]}), [
        [{"messages": [Q, A, {"role": "tool", "content": "r"}, A]}],
    ]),
    "a turn without a role": ("a.jsonl", lines(TALK, {"messages": [Q, {"role": None, "content": "a"}]}), [[TALK]]),
    "objects with commas": ("a.jsonl", '{"prompt":"q","completion":"a"},\n{"prompt":"q","completion":"a"},\n', [
        [{"prompt": [Q], "completion": [A]}] * 2,
    ]),
    "objects over lines": ("a.json", '{\n"prompt":"q","completion":"a"}\n{\n"prompt":"q","completion":"a"}\n', [
        [{"prompt": [Q], "completion": [A]}] * 2,
    ]),
    "a better and a worse answer": ("a.jsonl", lines({"prompt": "q", "winning_answer": "a", "losing_answer": "b"}), [
        [{"prompt": [Q], "chosen": [A], "rejected": [{**A, "content": "b"}]}],
    ]),
    "several chosen answers": ("a.jsonl", lines({"prompt": "q", "chosen": ["a b", "c d"], "rejected": ["e f"]}), [
        [{"prompt": [Q], "chosen": ["a b", "c d"]}], [{"prompt": [Q], "rejected": ["e f"]}],
        [{"prompt": [Q]}],
    ]),
    "another prompt than that of the answers": (
        "a.jsonl", lines({"prompt": "r", "chosen": [Q, A], "rejected": [Q, {**A, "content": "b"}]}), [
            [{"prompt": [Q], "chosen": [A], "rejected": [{**A, "content": "b"}]}],
        ],
    ),
    "texts among turns": ("a.jsonl", lines({"messages": "q"}, TALK, TALK), [[TALK, TALK]]),
    "objects in texts": ("a.jsonl", lines(json.dumps(TALK)), [[TALK]]),
    "bare texts": ("a.jsonl", '"one"\n"two"\n', [text("one", "two")]),
    "a list of bare texts": ("a.json", '["one", "two"]', [text("one", "two")]),
    "a chat log": ("a.txt", "[20.06.19, 15:58] Ann: hi\n[20.06.19, 15:59] Bob: hi\n", [
        text("[20.06.19, 15:58] Ann: hi", "[20.06.19, 15:59] Bob: hi"),
    ]),
    "Windows quotes": ("a.csv", "prompt,completion\nq,it’s 5 €\n".encode("cp1252"), [
        [{"prompt": [Q], "completion": [{**A, "content": "it’s 5 €"}]}],
    ]),
    "Russian in an old encoding": ("a.csv", "prompt,completion\nq,да\n".encode("cp1251"), []),
    "CSV of an old Mac": ("a.csv", "question,answer\rq,a\r", [[TALK]]),
    "a document": ("a.json", '{\n"v": 1, "rows": [{"prompt": "q", "completion": "a"}]}', [
        [{"prompt": [Q], "completion": [A]}],
    ]),
    "a comma at the end": ("a.json", '[{"prompt":"q","completion":"a"},]', [[{"prompt": [Q], "completion": [A]}]]),
    "calls without a name": ("a.jsonl", lines({"messages": [Q, {**A, "tool_calls": [{"fn": "f"}]}]}), []),
    "tools that are a number": ("a.jsonl", lines({**TALK, "tools": [3]}, TALK), [[TALK]]),
}  # fmt: skip
_FLAGS = re.compile(r"(?:--?[a-z][a-z-]*(?:[ =](?:'[^']*'|\"[^\"]*\"|(?!--)[^\s;,`'\"]+)+)?\s*)+")


def alternatives(hint: str) -> list[list[str]]:
    """Return the flags of each thing that a hint suggests."""
    own = re.sub(r"(jq|sed|perl) .*", "", hint)
    parts = re.split(r"; or |; | or (?=--|`--)|, or ", own)
    found = [shlex.split(" ".join(match[0] for match in _FLAGS.finditer(part.replace("`", " ")))) for part in parts]
    return [flags for flags in found if flags]


@pytest.mark.parametrize("name", CASES)
def test_hints(name: str, tmp_path: Path) -> None:
    file, content, right = CASES[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    first = run_cli("convert", file, cwd=tmp_path)
    assert first.returncode in (2, 3, 4), first
    hint = first.stderr.decode().partition("hint: ")[2].strip()
    for flags in alternatives(hint):
        check(run_cli("convert", file, *flags, "--max-bad", "90%", cwd=tmp_path), right, flags)
    for command in re.findall(r"(?:jq|sed|perl) .*", hint):
        if shutil.which(command.split()[0]) is None:
            continue
        made = command.replace("FILE", file).rpartition(" > ")[0]
        written = "made" + Path(command.rpartition(" > ")[2]).suffix
        (tmp_path / written).write_bytes(subprocess.check_output(["sh", "-c", made], cwd=tmp_path))
        check(run_cli("convert", written, cwd=tmp_path), right, command)


def check(done: subprocess.CompletedProcess[bytes], right: list[list[Any]], what: object) -> None:
    """Assert that a command was refused with an exit code for it, or wrote one of the right results."""
    if done.returncode:
        assert done.returncode in (2, 3, 4), (what, done)
    else:
        assert from_lines(done.stdout) in right, (what, done)
