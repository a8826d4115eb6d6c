"""Detection: the dialect, its columns and type, other dialects, unused columns."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chatfmt import schema
from chatfmt.dialects import DIALECTS, Columns, detect, used_columns
from chatfmt.errors import DialectError, NoDialect, UsageError

from ...conftest import run_cli, write_rows
from ..batches import conversations, convert, to_batch
from ..test_goldens import GOLDENS, read_golden

USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def test_detection() -> None:
    found = detect(
        [to_batch([{"id": 1, "conversations": [{"from": "human", "value": "a"}], "system": "s"}] * 3)], Columns()
    )
    assert found.dialect == "sharegpt"
    assert found.columns.fields == {
        "messages": "conversations", "messages.role": "from", "messages.content": "value", "system": "system",
    }  # fmt: skip
    assert found.reason == (
        "turns with `from` and `value`; messages: `conversations`, system: `system` (checked 3 rows)"
    )
    assert (found.used, found.unused) == (("conversations", "system"), ("id",))
    assert (found.rows_seen, found.rows_fit, found.type) == (3, 3, "language-modeling")


def test_preference_goes_before_messages() -> None:
    pair = {"prompt": "a", "messages": [USER, ASSISTANT], "chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}
    found = detect([to_batch([pair])], Columns())
    assert (found.dialect, found.type) == ("preference", "preference")
    assert found.others["messages"] == "turns with `role` and `content`; less specific: --dialect messages"
    made, named = convert([pair], dialect="messages")
    assert (named.type, made) == ("language-modeling", [{"messages": [USER, ASSISTANT]}])


def test_calls_in_text_stay_text_by_default() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    rows = [{"messages": [USER, {"role": "assistant", "content": text}]}]
    made, found = convert(rows)
    assert made == rows
    assert found.others == {}
    assert found.left == ("tool calls in `<tool_call>` tags (Hermes): left as text, --dialect hermes parses it",)
    asked, named = convert(rows, dialect="hermes")
    assert asked != rows and named.left == ()
    written = "<tool_call>\n<function=f>\n</function>\n</tool_call>"  # as Qwen3-Coder does, which no dialect parses
    assert convert([{"messages": [USER, {"role": "assistant", "content": written}]}])[1].left == ()


def test_a_dialect_is_suggested_only_for_what_it_parses_and_reads_all_rows_by_name() -> None:
    listed = {"role": "system", "content": 'You may call [{"name": "f", "description": "d", "parameters": {}}]'}
    rows = [{"messages": [listed, USER, ASSISTANT]}] + [{"messages": [USER, ASSISTANT]}] * 5
    made, found = convert(rows)
    assert (found.dialect, found.left, made) == ("messages", (), rows)
    asked, named = convert(rows, dialect="toolace")
    assert (named.dialect, named.rows_fit, asked[1:]) == ("toolace", 6, rows[1:])
    with pytest.raises(NoDialect):
        convert(rows[1:], dialect="toolace")


def test_a_named_dialect_keeps_rows_of_the_dialects_it_covers() -> None:
    call = '{"name": "f", "arguments": {}}'
    tools = [{"type": "function", "function": {"name": "f"}}]
    rows = [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": call}], "tools": tools},
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": f"<tool_call>{call}</tool_call>"},
            ]
        },
    ]
    called = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
    turns = [{"role": "user", "content": "q"}, called]
    assert convert(rows, dialect="hermes")[0] == [{"messages": turns, "tools": tools}, {"messages": turns}]
    thought = [
        *rows[:1],
        {"conversations": [rows[1]["conversations"][0], {"from": "gpt", "value": "<think>a</think>b"}]},
    ]
    answer = {"role": "assistant", "reasoning_content": "a", "content": "b"}
    made, _ = convert(thought, dialect="reasoning-tags")
    assert made == [{"messages": turns, "tools": tools}, {"messages": [turns[0], answer]}]


@pytest.mark.parametrize("name", ["label", "kto_tag"])
def test_conversations_with_a_label(name: str) -> None:
    made, found = convert([{"messages": [USER, ASSISTANT], name: False}])
    assert (found.type, made) == ("unpaired-preference", [{"messages": [USER, ASSISTANT], "label": False}])
    made, found = convert([{"prompt": [USER], "completion": [ASSISTANT], name: True}])
    assert (found.type, made) == (
        "unpaired-preference",
        [{"prompt": [USER], "completion": [ASSISTANT], "label": True}],
    )


def test_one_row_with_reasoning_is_enough_for_a_note() -> None:
    plain = {"messages": [USER, ASSISTANT]}
    tagged = {"messages": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nso"}]}
    _, found = convert([plain, plain, tagged])
    assert found.left == ("reasoning between tags: left as text, --dialect reasoning-tags parses it",)
    assert convert([plain])[1].left == ()


def test_a_column_that_some_rows_of_a_mixture_leave_behind_is_noted() -> None:
    talk = {"messages": [USER, ASSISTANT]}
    rows = [{"question": "q", "answer": "a"}] * 2 + [{**talk, "question": "another"}, {**talk, "answer": "b"}, talk]
    said = "`question` is read in some of the sampled rows and left behind in 1 of 5: --keep question copies it"
    assert convert(rows)[1].left == (f"{said} to the output",)
    assert convert(rows, Columns(keep=("question",)))[1].left == convert(rows, Columns(keep="all"))[1].left == ()


@pytest.mark.parametrize("name", ["messages", "turns", "dialog"])
def test_names_before_turns_are_noted_with_the_flags_that_read_them(name: str, tmp_path: Path) -> None:
    write_rows(source := tmp_path / "in.jsonl", [{name: ["Customer: q\nAgent: x", "Agent: a"]}] * 2)
    said = run_cli("convert", source).stderr.decode()
    flags = f"--map transcript={name} --marker Customer:=user --marker Agent:=assistant"
    assert f"`{name}` looks like a transcript: {flags}" in said
    done = run_cli("convert", source, *flags.split(), "-q").stdout.splitlines()
    turns = [{"role": "user", "content": "q\nAgent: x"}, {"role": "assistant", "content": "a"}]
    assert [json.loads(row) for row in done] == [{"messages": turns}] * 2


def test_a_note_on_marked_turns_has_the_flags_that_split_them(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a\n<extra_id_1>Assistant\nb\n<extra_id_1>User\nc", "response": "d"},
        {"prompt": "e", "response": "f"},
    ]
    (said,) = convert(rows)[1].left
    assert said.startswith("turns marked with `<extra_id_1>` in `prompt`: left as one text, split it with --map ")
    source = tmp_path / "in.jsonl"
    write_rows(source, rows)
    flags = shlex.split(said.partition("split it with ")[2])
    done = run_cli("convert", source, *flags, "-q")
    turns = [[turn["content"] for turn in json.loads(line)["messages"]] for line in done.stdout.splitlines()]
    assert turns == [["a", "b", "c", "d"], ["e", "f"]]


def test_a_mapping_completes_a_detection() -> None:
    rows = [{"question": "q", "answer": "a", "persona": "You are terse."}]
    made, found = convert(rows, Columns(fields={"system": "persona"}))
    assert made[0]["messages"][0] == {"role": "system", "content": "You are terse."}
    assert found.columns.fields == {"prompt": "question", "completion": "answer", "system": "persona"}


def test_a_mapping_resolves_an_ambiguity() -> None:
    rows = [{"prompt": "p", "response": "a", "output": "b", "messages": [USER, ASSISTANT]}]
    made, found = convert(rows, Columns(fields={"prompt": "prompt", "completion": "response"}))
    assert made == [{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]}]
    assert found.unused == ("output", "messages")


def test_user_and_assistant_are_aliases() -> None:
    made, _ = convert([{"q": "x", "a": "y"}], Columns(fields={"user": "q", "assistant": "a"}))
    assert made == [{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}]


def test_paths_into_columns() -> None:
    row = {"body": {"messages": [USER, ASSISTANT]}, "meta": {"sys": ["s0", "s1"]}}
    made, found = convert([row], Columns(fields={"messages": "body.messages", "system": "meta.sys[1]"}))
    assert made == [{"messages": [{"role": "system", "content": "s1"}, USER, ASSISTANT]}]
    assert used_columns(found)[:2] == ("body", "meta")


def test_keys_inside_turns() -> None:
    row = {"dialog": [{"who": "user", "said": "a"}, {"who": "assistant", "said": "b"}]}
    fields = {"messages": "dialog", "messages.role": "who", "messages.content": "said"}
    assert convert([row], Columns(fields=fields))[0] == [{"messages": [USER, ASSISTANT]}]


def test_alternating_roles() -> None:
    row = {"messages": [{"content": "a"}, {"content": "b"}]}
    assert convert([row], Columns(turn_roles=("user", "assistant")))[0] == [
        {"messages": [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant"}]}
    ]


def test_a_mapped_role() -> None:
    row = {"messages": [{"role": "Robot", "content": "a"}, {"role": "gpt", "content": "b"}]}
    made, _ = convert([row], Columns(roles={"robot": "assistant", "gpt": "user"}))
    assert [turn["role"] for turn in made[0]["messages"]] == ["assistant", "user"]


def test_an_answer_beside_a_solution_is_its_result() -> None:
    rows: list[dict[str, Any]] = [
        {"problem": "p", "solution": "s", "answer": "1"}, {"problem": "q", "solution": None, "answer": "2"},
    ]  # fmt: skip
    found = detect([to_batch(rows)], Columns())
    assert (found.dialect, found.rows_fit, found.columns.fields["completion"]) == ("prompt-completion", 1, "solution")
    assert found.unused == ("answer",)


def test_rows_of_different_dialects() -> None:
    rows = [{"messages": [USER]}, {"instruction": "i", "output": "o"}, {"messages": [USER]}]
    found = detect([to_batch(rows)], Columns())
    assert (found.dialect, found.reason) == ("mixed", "rows in different dialects: 2 messages, 1 alpaca")
    assert used_columns(found) == ()


def test_rows_of_different_types() -> None:
    """Conversations and preferences do not go into one output; `mixed` reads the more common type."""
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    rows = [{"messages": [USER]}, {"prompt": [USER], "completion": [ASSISTANT]}, pair]
    with pytest.raises(NoDialect) as caught:
        detect([to_batch(rows)], Columns())
    assert caught.value.message == (
        "the rows are of different types: 2 language-modeling, 1 preference; row 2 is preference"
    )
    assert caught.value.hint == (
        "--dialect mixed reads those of type language-modeling: "
        "the others are bad rows, which --on-error skip --max-bad 34% leaves out"
    )
    with pytest.raises(NoDialect) as caught:
        detect([to_batch([{"messages": [USER]}] * 9 + [pair])], Columns())
    assert (caught.value.hint or "").endswith("the others are bad rows, which --on-error skip leaves out")
    found = detect([to_batch(rows)], Columns(), "mixed")
    assert (found.type, found.columns.type) == ("language-modeling", "language-modeling")
    for batch, place in ((to_batch(rows), 2), (to_batch([pair]), 0)):
        with pytest.raises(DialectError) as error:
            DIALECTS["mixed"].convert(batch, found.columns)
        assert (error.value.code, error.value.at.row) == ("row.type", place)
        assert error.value.message == "the row is preference data, the others are language-modeling data"
    made = conversations(DIALECTS["mixed"].convert(to_batch(rows[:2]), found.columns))
    assert made == [{"row": 0, "messages": [USER]}, {"row": 1, "messages": [USER, ASSISTANT]}]


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_the_used_columns_are_enough(path: Any) -> None:
    head, rows, expected = read_golden(path)
    batch = to_batch(rows)
    found = detect([batch], Columns(options=head.get("options", {})), head["dialect"])
    needed = [schema.ROW, *(used_columns(found) or batch.schema.names[1:])]
    own = [name for name in batch.schema.names if name in (*needed, schema.KEYS)]
    assert conversations(DIALECTS[found.dialect].convert(batch.select(own), found.columns)) == expected


def test_kept_columns() -> None:
    rows = [{"id": "1", "n": 2, "question": "q", "answer": "a"}, {"id": None, "question": "q", "answer": "a"}]
    for keep in (("n", "id"), "all"):
        made, found = convert(rows, Columns(keep=keep))
        talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        assert made == [{"messages": talk, "id": "1", "n": 2}, {"messages": talk}]
        assert found.unused == ()
    batch = to_batch(rows)
    kept = DIALECTS["prompt-completion"].convert(batch, detect([batch], Columns(keep="all")).columns)
    assert kept.column(schema.KEYS).to_pylist() == [None, '["id"]']


def test_a_column_with_a_reserved_name_cannot_be_kept() -> None:
    rows = [{"messages": [USER, ASSISTANT], "prompt": "a"}]
    with pytest.raises(UsageError) as caught:
        convert(rows, Columns(keep=("prompt",)))
    assert caught.value.message == "the column `prompt` cannot be kept: the output needs the name"
    assert convert(rows, Columns(keep="all"))[0] == [{"messages": [USER, ASSISTANT]}]


def test_columns_can_be_pickled() -> None:
    for path in GOLDENS:
        head, rows, _ = read_golden(path)
        found = detect([to_batch(rows)], Columns(options=head.get("options", {})), head["dialect"])
        assert pickle.loads(pickle.dumps(found)) == found


def test_dialects_that_need_the_whole_file() -> None:
    assert [name for name, dialect in DIALECTS.items() if dialect.whole_file] == ["oasst-rows", "rated-rows"]


def test_batches_of_different_columns() -> None:
    """A column that a later JSON batch lacks, or that is null in all its rows, is absent."""
    first, second = to_batch([{"messages": [USER], "system": "s"}]), to_batch([{"messages": [USER], "system": None}])
    columns = detect([first], Columns()).columns
    assert conversations(DIALECTS["messages"].convert(second, columns)) == [{"row": 0, "messages": [USER]}]
    third = to_batch([{"messages": [USER]}])
    assert conversations(DIALECTS["messages"].convert(third, columns)) == [{"row": 0, "messages": [USER]}]
    assert pa.types.is_int64(third.schema.field(0).type)


def test_alternating_roles_are_those_of_the_option() -> None:
    rows = [{"turns": ["a", "b"]}]
    assert convert(rows)[0] == [{"prompt": [USER, {"role": "user", "content": "b"}]}]
    made, found = convert(rows, Columns(turn_roles=("user", "assistant")))
    assert (made, found.dialect) == ([{"messages": [USER, ASSISTANT]}], "string-turns")


def test_turns_inside_json_text_are_noted() -> None:
    text = json.dumps({"messages": [USER]})
    made, found = convert([{"input": text, "output": "b"}])
    assert made == [{"messages": [{"role": "user", "content": text}, ASSISTANT]}]
    assert found.left == ("`input` is text that holds turns: --map prompt=input.messages reads them",)


TRANSCRIPTS = {
    "Human: hi\nAssistant: yo\nHuman: more": "--marker Human:=user --marker Assistant:=assistant",
    "Patient: hi\nDoctor: yo": "--marker Patient:=user --marker Doctor:=assistant",
    "USER: hi\nBOT: f()\nTOOL RESPONSE: 3": (
        "--marker USER:=user --marker BOT:=assistant --marker 'TOOL RESPONSE:=tool'"
    ),
    "# System: s\n# User: a\n# Bot: b": (
        "--marker '# System:=system' --marker '# User:=user' --marker '# Bot:=assistant'"
    ),
}


@pytest.mark.parametrize("text", TRANSCRIPTS)
def test_a_transcript_is_recognised_by_its_markers(text: str) -> None:
    with pytest.raises(NoDialect) as caught:
        convert([{"n": "1", "log": text}] * 3)
    assert caught.value.hint == f"`log` looks like a transcript: --map transcript=log {TRANSCRIPTS[text]}"


@pytest.mark.parametrize("text", ["Note: one thing", "a plain text\nNote: x\nSee: y", "Dear Ada,\nyes"])
def test_other_texts_are_not_transcripts(text: str) -> None:
    with pytest.raises(NoDialect) as caught:
        convert([{"n": "1", "log": text}] * 3)
    assert "transcript" not in (caught.value.hint or "")
