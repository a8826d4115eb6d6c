"""`inspect`, `preview` and `check` on data with difficulties."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.cli.commands.preview import marked

from ...conftest import EVERYDAY, from_lines, run_cli, said, write_rows

TALK = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
CALL = {**TALK, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
TWO = {"messages": [*TALK["messages"], TALK["messages"][1]]}
SPOILT = {"messages": [{"role": "user", "content": "<|im_start|>q"}, TALK["messages"][1]]}


def written(folder: Path, rows: list[Any], name: str = "in.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def shown(*arguments: Any) -> str:
    return run_cli(*arguments).stdout.decode()


def test_check_goes_on_after_a_text_that_the_template_loses(tmp_path: Path) -> None:
    source = written(tmp_path, [TALK, CALL, TWO, CALL, "{\n"])
    run = run_cli("check", source, "-t", "gemma", "--json")
    found = [(each["code"], each["row"], Path(each["file"]).name) for each in json.loads(run.stdout)["problems"]]
    assert (run.returncode, found) == (
        1,
        [("template.loss", 1, "in.jsonl"), ("msg.order", 2, "in.jsonl"), ("template.raised", 2, "in.jsonl"),
         ("template.loss", 3, "in.jsonl"), ("json.syntax", 4, "in.jsonl")],
    )  # fmt: skip


def test_check_names_the_rows_with_special_tokens(tmp_path: Path) -> None:
    source = written(tmp_path, [TALK, SPOILT, SPOILT])
    report = json.loads(shown("check", source, "-t", "chatml", "--json"))
    assert [(p["code"], p["row"], p["message"], p["line"], p["detail"]) for p in report["problems"]] == [
        ("token.control", row, 0, row + 1, "`<|im_start|>` in the content") for row in (1, 2)
    ]


def test_check_reports_the_same_for_several_shards(tmp_path: Path) -> None:
    source = written(tmp_path, [TALK, TWO, TALK, SPOILT, "{\n", TWO, SPOILT])
    cut = tmp_path / "cut.yaml"
    cut.write_text(f"source: {source}\nrows_per_shard: 2\n")
    found = [run_cli("check", given, "-t", "chatml", "--json") for given in (source, cut)]
    assert found[0].stdout == found[1].stdout and [run.returncode for run in found] == [1, 1]
    problems = json.loads(found[0].stdout)["problems"]
    assert [(each["code"], each["row"]) for each in problems] == [
        ("msg.order", 1), ("token.control", 3), ("json.syntax", 4), ("msg.order", 5), ("token.control", 6),
    ]  # fmt: skip


def test_check_reports_every_loss_however_the_file_is_cut(tmp_path: Path) -> None:
    source = written(tmp_path, [CALL, CALL, TALK, TALK, TALK, CALL])
    cut = tmp_path / "cut.yaml"
    cut.write_text(f"source: {source}\nrows_per_shard: 2\n")
    for given in (source, cut):
        problems = json.loads(run_cli("check", given, "-t", "gemma", "--json").stdout)["problems"]
        assert [(each["code"], each["row"]) for each in problems] == [("template.loss", row) for row in (0, 1, 5)]


def test_check_puts_problems_of_a_kind_on_one_line(tmp_path: Path) -> None:
    source = written(tmp_path, [TWO] * 7)
    lines = shown("check", source).splitlines()
    assert f"in {source}:" in lines
    row = next(line for line in lines if line.startswith(" msg.order ") and "row 0" in line)
    assert "row 0 message 2" in row and sum("msg.order" in line for line in lines) == 2
    assert "and 2 more" in shown("check", source)


def test_check_has_no_column_of_fixes_where_there_are_none(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "g", "arguments": {}}}
    asked = {"role": "assistant", "content": "", "tool_calls": [call]}
    turns = [TALK["messages"][0], asked, {"role": "tool", "tool_call_id": "1", "content": "3"}, TALK["messages"][1]]
    lines = [line.rstrip() for line in shown("check", written(tmp_path, [{**CALL, "messages": turns}])).splitlines()]
    assert lines[1:4] == [
        " code           kind      found",
        " ──────────────────────────────",
        " tool.unknown   warning       1",
    ]


def test_preview_shows_a_record_that_cannot_be_read_and_goes_on(tmp_path: Path) -> None:
    source = written(tmp_path, [TALK, "oops\n", TALK])
    rows = [json.loads(line) for line in shown("preview", source, "--json").splitlines()]
    assert [(row["row"], row["raw"], bool(row["output"])) for row in rows] == [
        (0, None, True),
        (1, "oops", False),
        (2, None, True),
    ]
    assert rows[1]["problem"].startswith("row 1: not JSON: expected a value (line 2, byte ")


def test_preview_breaks_no_line_and_says_what_is_trained(tmp_path: Path) -> None:
    said = "word " * 60
    source = written(tmp_path, [{"messages": [TALK["messages"][0], {"role": "assistant", "content": said}]}])
    lines = shown("preview", source, "-t", "chatml").splitlines()
    assert said + "<|im_end|>" in lines
    assert lines[-1] == "trained: characters 51 to 361"


def test_preview_shows_the_text_beside_kept_columns_of_rows_that_differ(tmp_path: Path) -> None:
    source = written(tmp_path, [{**TALK, "a": 1}, {"b": 2, **TALK, "a": 3}])
    rows = [json.loads(line) for line in shown("preview", source, "-t", "chatml", "--keep", "a", "--json").splitlines()]
    assert [list(row["output"][0]) for row in rows] == [["text", "a"], ["text", "a"]]


NODES = [
    {"message_id": "1", "parent_id": None, "text": "q", "role": "prompter"},
    {"message_id": "4", "parent_id": None, "text": "Q", "role": "prompter"},
    {"message_id": "2", "parent_id": "1", "text": "a", "role": "assistant"},
    {"message_id": "3", "parent_id": "2", "text": "q2", "role": "prompter"},
    {"message_id": "5", "parent_id": "4", "text": "A", "role": "assistant"},
]


def test_preview_puts_conversations_together_that_are_spread_over_rows(tmp_path: Path) -> None:
    nodes = [{**node, "message_tree_id": node["message_id"], "lang": "en"} for node in NODES]
    source = written(tmp_path, nodes)
    asked = from_lines(run_cli("convert", source, "-q").stdout)
    rows = [json.loads(line) for line in shown("preview", source, "-n", "1", "--json").splitlines()]
    assert [row["output"] for row in rows] == [[asked[0]]] and len(asked[0]["messages"]) == 3
    assert (rows[0]["row"], rows[0]["rows"], rows[0]["record"]["text"]) == (0, 5, "q")
    assert "row 1 (line 2), one of the 5 rows of this conversation" in shown("preview", source)


KINDS = [
    ({"a": {"b": 1, "c": {"d": 2}}}, "object", "{b, c}"),
    ({"a": [1.5]}, "list", "list of double"),
    ({"a": True}, "true/false", "true/false"),
    ({"a": 7}, "number", "int64"),
    ({"a": "x"}, "text", "text"),
    ({"a": [{"b": "x"}]}, "list of {b}", "list of {b}"),
]


@pytest.mark.parametrize(("row", "as_json", "as_parquet"), KINDS)
def test_inspect_describes_types(tmp_path: Path, row: Any, as_json: str, as_parquet: str) -> None:
    source = written(tmp_path, [{**TALK, **row}])
    pq.write_table(pa.Table.from_pylist([{**TALK, **row}]), tmp_path / "in.parquet")
    for path, expected in ((source, as_json), (tmp_path / "in.parquet", as_parquet)):
        columns = json.loads(shown("inspect", path, "--json"))["columns"]
        assert {column["name"]: column["type"] for column in columns}["a"] == expected


def test_inspect_says_what_its_codes_mean(tmp_path: Path) -> None:
    lines = shown("inspect", written(tmp_path, [TALK, TWO])).splitlines()
    assert "problems: msg.order (roles out of order) in 1 row" in lines
    assert (
        "dialect: messages (language-modeling), turns with `role` and `content`; messages: `messages` (checked 2 rows)"
        in lines
    )


def test_inspect_counts_the_characters_of_plain_text(tmp_path: Path) -> None:
    source = written(tmp_path, [{"text": "abc"}, {"text": "de"}, {"text": ""}])
    said = shown("inspect", source)
    assert "characters per row: 0 to 3, median 2" in said


def test_inspect_reports_text_that_stays_text(tmp_path: Path) -> None:
    tagged = {"messages": [TALK["messages"][0], {"role": "assistant", "content": "<think>\nhm\n</think>\n\nso"}]}
    said = shown("inspect", written(tmp_path, [TALK, tagged]))
    assert "reasoning between tags: left as text, --dialect reasoning-tags parses it\n" in said


def test_marked_text_changes_its_style_only_where_it_must() -> None:
    made = marked("<s>ab\x1bc</s>", [[3, 6]], ["<s>", "</s>"])
    assert made.plain == "<s>ab\\x1bc</s>"
    assert [(span.start, span.end, str(span.style)) for span in made.spans] == [
        (0, 3, "bold magenta"),
        (3, 9, "green"),
        (9, 10, "default"),
        (10, 14, "bold magenta"),
    ]


def test_values_that_json_cannot_hold_are_shown(tmp_path: Path) -> None:
    turns = [{"role": "robot", "content": "x"}]
    images = pa.array([{"bytes": b"\xff\x00", "path": "a.png"}] * 20)
    rows = [TALK["messages"], turns, *[TALK["messages"]] * 18]
    table = pa.table({"messages": rows, "image": images, "score": [float("nan")] * 20})
    pq.write_table(table, source := tmp_path / "in.parquet")
    found = {each["name"]: each["example"] for each in json.loads(shown("inspect", source, "--json"))["columns"]}
    image = {"bytes": "(binary, 2 B)", "path": "a.png"}
    assert found == {"messages": TALK["messages"], "image": image, "score": "nan"}
    preview = json.loads(shown("preview", source, "--keep", "all", "-n", "1", "--json"))
    assert preview["record"] == {**TALK, "image": image, "score": "nan"}
    question, answer = TALK["messages"]
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question["content"]}]}
    assert preview["output"] == [{"messages": [question, answer], "images": [image], "score": "nan"}]
    assert json.loads(shown("check", source, "--json"))["problems"][0]["code"] == "msg.role"
    out = tmp_path / "out.parquet"
    skipped = run_cli("convert", source, "--on-error", "skip", "--rejects", tmp_path / "bad.jsonl", "-o", out)
    assert (skipped.returncode, pq.read_metadata(out).num_rows) == (0, 19)
    (reject,) = map(json.loads, (tmp_path / "bad.jsonl").read_text().splitlines())
    assert (reject["source"]["row"], reject["code"], reject["raw"]) == (1, "msg.role", None)


@pytest.mark.parametrize(
    "turn, template, command",
    [({}, "chatml", "-t chatml"), ({"reasoning_content": "Hm."}, "llama-2", "-t llama-2 --fit")],
)
def test_a_template_that_was_named_is_kept_and_fitted_where_that_is_needed(
    turn: dict[str, str], template: str, command: str, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **turn}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    run = run_cli("inspect", "in.jsonl", "-t", template, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.decode().splitlines()[-1].startswith(f"  chatfmt convert in.jsonl {command} -o ")


def turns(*speakers: str) -> list[dict[str, Any]]:
    """Turns of two conversations, one after the other in time, out of order in the file."""
    rows = [
        {"dialog_id": dialog, "speaker": speaker, "turn": turn, "utterance": f"{speaker} {turn}"}
        for turn, speaker in enumerate(speakers)
        for dialog in ("x", "y")
    ]
    return rows[::-1]


def test_rows_that_are_turns_are_inspected_as_conversations(tmp_path: Path) -> None:
    source = written(tmp_path, turns("user", "assistant", "user", "assistant"))
    found = json.loads(shown("inspect", source, "--json"))
    assert (found["rows_seen"], found["roles"], found["problem"]) == (8, {"user": 4, "assistant": 4}, None)
    assert [column["name"] for column in found["columns"]] == ["dialog_id", "speaker", "turn", "utterance"]
    assert found["notes"][0] == "each row is one turn, and the command makes conversations of them"
    command = shlex.split(found["command"])
    assert command[2:-2] == [str(source), "--group-by", "dialog_id", "--order-by", "turn", "-t", "chatml"]
    made = run_cli(*command[1:-2], "-q")
    texts = [json.loads(line)["text"] for line in made.stdout.splitlines()]
    assert len(texts) == 2 and all(re.findall(r"user \d|assistant \d", text) == [
        "user 0", "assistant 1", "user 2", "assistant 3"] for text in texts)  # fmt: skip


def test_speakers_without_a_role_are_named_in_the_hint(tmp_path: Path) -> None:
    run = run_cli("inspect", written(tmp_path, turns("customer", "Ann", "customer", "Ann")))
    hint = (
        "hint: each row is one turn: --group-by dialog_id --order-by turn --role Ann=ROLE --role customer=ROLE "
        "makes one conversation of them; ROLE is user, assistant, system or tool"
    )
    assert run.stderr.decode().splitlines()[-1] == hint


def test_columns_that_only_look_like_a_conversation_are_no_key(tmp_path: Path) -> None:
    rows = [{"conversation_id": n, "speaker": "Ann", "text": f"Hello {n} times"} for n in range(3)]
    assert "--group-by" not in run_cli("inspect", written(tmp_path, rows)).stderr.decode()


def test_check_says_that_rows_are_the_first_of_their_conversation(tmp_path: Path) -> None:
    source = written(tmp_path, turns("user", "robot"))
    run = run_cli("check", source, "--group-by", "dialog_id")
    said = run.stdout.decode()
    assert "row 0 message 0" in said and "each row is the first of its conversation (--group-by dialog_id)" in said


def test_what_the_recommended_command_leaves_behind_is_named(tmp_path: Path) -> None:
    source = tmp_path / "rated.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "seconds": 3}]
    source.write_text(json.dumps({"id": 1, "messages": turns}))
    said = "left behind: id (number); --keep all carries it; also messages[].seconds (number)"
    inspected = run_cli("inspect", source).stdout.decode().splitlines()
    assert said in inspected
    assert said in run_cli(*shlex.split(inspected[-1])[1:-2]).stderr.decode().splitlines()


def test_inspect_recommends_no_command_that_is_refused_or_stops(tmp_path: Path) -> None:
    detail = [{"begin_offset": 0, "end_offset": 1, "train": True}]
    source = written(tmp_path, [{"messages": [TALK["messages"][0], {**TALK["messages"][1], "train_detail": detail}]}])
    run = run_cli("inspect", source)
    problem = "with -t chatml, `messages[].train_detail` looks like what to train on, and would be left behind"
    assert run.stderr.decode().splitlines()[0] == f"error: {source}: {problem}" and b"convert it with" not in run.stdout
    written(tmp_path, [TALK, {"messages": []}, "{\n", {"messages": [{"role": "x", "content": "y"}]}])
    command = shlex.split(shown("inspect", source).splitlines()[-1])
    assert command[3:-2] == ["-t", "chatml", "--on-error", "skip", "--max-bad", "75%"]
    note = "note: row 3 message 0: unknown role `x`; map it with --role x=ROLE: system, user, assistant or tool"
    assert note in shown("inspect", source).splitlines()
    assert run_cli(*command[1:-1], tmp_path / "out").returncode == 0
    assert "note: no sampled row is left to try the command on" in shown("inspect", source, "--where", "messages == 1")
    written(tmp_path, [])
    command = shlex.split(shown("inspect", source, "--allow-empty").splitlines()[-1])
    assert run_cli(*command[1:-1], tmp_path / "empty").returncode == 0


def test_the_error_of_a_json_object_that_is_one_record_is_its_own(tmp_path: Path) -> None:
    turns = [TALK["messages"][0], {**TALK["messages"][1], "thought": "I think."}]
    (tmp_path / "one.json").write_text(json.dumps({"info": {"a": 1}, "messages": turns}, indent=1))
    flags = ["--map", "messages.reasoning=thought", "-t", "chatml"]
    run = run_cli("convert", tmp_path / "one.json", *flags)
    note, error, _ = run.stderr.decode().splitlines()
    assert (run.returncode, note) == (6, "note: the JSON object is read as one record: --field .")
    assert error.endswith("one.json row 0: template `chatml` loses the reasoning of role `assistant` (message 1)")


def test_json_gives_the_column_of_each_part(tmp_path: Path) -> None:
    source = tmp_path / "qa.jsonl"
    source.write_text('{"question": "q", "answer": "a"}\n')
    found = json.loads(run_cli("inspect", source, "--json").stdout)["detection"]
    assert found["columns"] == {"prompt": "question", "completion": "answer"}


BAD = (
    '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}\n'
    '{"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": ""}]}\n'
    '{"messages": [{"role": "robot", "content": "x"}]}\n'
)


def test_check_lists_every_problem_with_its_row(tmp_path):
    (tmp_path / "in.jsonl").write_text(BAD)
    run = run_cli("check", "in.jsonl", "--json", cwd=tmp_path)
    report = json.loads(run.stdout)
    assert (run.returncode, report["rows"]) == (1, 3)
    assert [(p["code"], p["kind"], p["row"], p["message"]) for p in report["problems"]] == [
        ("msg.empty", "warning", 1, 1), ("msg.order", "warning", 1, 1), ("msg.ends_user", "warning", 1, 1),
        ("msg.role", "error", 2, 0),
    ]  # fmt: skip
    table = run_cli("check", "in.jsonl", cwd=tmp_path)
    assert "in in.jsonl:" in table.stdout.decode() and "row 2 message 0" in table.stdout.decode()
    assert table.returncode == 1
    clean = run_cli("check", EVERYDAY)
    assert (clean.returncode, clean.stdout) == (
        0,
        b"12 rows, no problems\nleft behind: topic (text); --keep all carries it\n",
    )


def test_inspect_as_json():
    report = json.loads(run_cli("inspect", EVERYDAY, "--json").stdout)
    assert report["detection"]["dialect"] == "messages" and report["detection"]["used"] == ["messages"]
    assert report["roles"] == {"user": 16, "assistant": 16, "system": 4}
    assert report["turns"] == {"smallest": 2, "median": 2, "largest": 6}
    assert report["command"].endswith("-t chatml -o everyday-chatml/")


@pytest.mark.parametrize(("row", "trainer"), [
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, "trl-dpo"),
    ({"prompt": "q", "completion": "a", "label": True}, "trl-kto"),
    ({"prompt": "q", "completions": ["a", "b"], "labels": [True, False]}, "trl-prm"),
])  # fmt: skip
def test_data_for_a_trainer_gets_its_command(row: dict[str, object], trainer: str, tmp_path) -> None:
    write_rows(tmp_path / "in.jsonl", [row])
    command = run_cli("inspect", "in.jsonl", cwd=tmp_path).stdout.decode().splitlines()[-1].strip()
    assert command == f"chatfmt convert in.jsonl --for {trainer} -o in-{trainer}/"
    assert run_cli(*command.split()[1:], cwd=tmp_path).returncode == 0


def test_inspect_suggests_what_to_map(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"a": "x", "b": "y"}\n' * 3)
    run = run_cli("inspect", "in.jsonl", cwd=tmp_path)
    assert run.returncode == 2 and "`a`" in said(run)[0] and "--map" in said(run)[1]
    assert " a " in run.stdout.decode()
