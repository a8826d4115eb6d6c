"""Leaves of the source that nothing reads are named, or refused if they look like part of the conversation."""

from __future__ import annotations

import json
import shlex
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt.errors import ChatfmtError, DialectError, UsageError

from ...conftest import run_cli, write_rows

TURNS = [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "It is blue."}]
TALK = {"messages": TURNS}
METADATA = {
    "id": "7f3a", "source": "forum", "url": "https://example.org/7", "category": "science", "tags": ["sky", "colour"],
    "model": "gpt-4o", "lang": "en", "score": 0.7, "tokens": 12, "created": "2024-05-01T12:00:00Z", "toxic": False,
    "title": "What colour has the sky above us?", "prompt_id": "p-1", "system_type": "none", "answer_model": "gpt-4o",
    "reasoning": "off", "output_tokens": 3, "prompt": "Sky?", "answer": "42", "difficulty": "easy",
    "description": "A short talk about the colour of the sky.", "original_question": "What colour does the sky have?",
    "meta": {"license": "mit", "annotator": {"name": "Ann", "note": "She read it twice and found no fault."}},
    "system_fingerprint": "fp_44709d6fcb", "problem": "optics", "prompt_hash": "9f86d081", "function": "look_up_colour",
    "context": "physics", "persona": "A curious child who asks about nature.", "label": "science", "n_turns": 2,
    "entities": [{"text": "sky", "label": "THING"}], "test_cases": [{"input": "1 2", "output": "3"}],
    "search_results": [{"url": "u", "content": "Rayleigh scattering is the reason."}], "loss": 0.3, "weight": 1.0,
    "moderation": [{"flagged": False, "scores": {"hate": 0.1}}], "user": "user-123", "image_id": 5,
}  # fmt: skip


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "in.jsonl"
    write_rows(path, rows)
    return path


def convert(source: Path, **keys: Any) -> chatfmt.Summary:
    return chatfmt.convert(
        chatfmt.Recipe(source=str(source), **keys), source.with_suffix(".out.jsonl"), executor="serial", overwrite=True
    )


def refusal(source: Path, **keys: Any) -> ChatfmtError:
    with pytest.raises(ChatfmtError) as caught:
        convert(source, **keys)
    assert not source.with_suffix(".out.jsonl").exists()
    return caught.value


def test_metadata_is_named_and_stops_nothing(tmp_path):
    summary = convert(write(tmp_path, {**TALK, **METADATA}, {**TALK, **METADATA}), template="chatml")
    roots = [leaf.split(" ")[0].split(".")[0].split("[")[0] for leaf in summary.left_columns]
    assert list(dict.fromkeys(roots)) == sorted(METADATA)
    assert {"meta.annotator.note (text)", "score (number)", "toxic (true/false)"} <= set(summary.left_columns)
    assert summary.left_keys == ()


def test_a_column_without_a_name_is_left_behind_like_others(tmp_path):
    (tmp_path / "in.csv").write_text(",question,answer\n0,Sky?,It is blue.\n")
    run = run_cli("convert", "in.csv", cwd=tmp_path)
    assert (json.loads(run.stdout), run.stderr.decode().splitlines()[-1]) == (
        TALK, "left behind: '' (text); --keep all carries it",
    )  # fmt: skip


def test_the_refusal_of_an_answer_without_content_is_not_left_behind(tmp_path):
    turns = [TURNS[0], {"role": "assistant", "content": None, "refusal": "I cannot tell."}]
    source = write(tmp_path, {"messages": turns})
    error = refusal(source, template="chatml")
    assert error.message == "`messages[].refusal` looks like content, and would be left behind"
    assert convert(source).rows == 1  # which writes the key


def test_thoughts_in_a_channel_are_not_written_as_answers(tmp_path):
    thought = {"role": "assistant", "channel": "analysis", "content": "Light scatters."}
    source = write(tmp_path, {"messages": [TURNS[0], thought, {**TURNS[1], "channel": "final"}]})
    for drop in ([], ["messages.channel"]):
        assert convert(source, template="qwen3", drop=drop).rows == 1
        text = json.loads((tmp_path / "in.out.jsonl").read_text())["text"]
        assert text.endswith("<think>\nLight scatters.\n</think>\n\nIt is blue.<|im_end|>\n")


def test_the_summary_names_what_is_left(tmp_path):
    turns = [{**turn, "lang": "en"} for turn in TURNS]
    write(tmp_path, {"messages": turns, "id": 1, "metadata": {"source": "a", "empty": None}, "note": "", "none": None})
    run = run_cli("convert", "in.jsonl", "-t", "chatml", "-o", "out", cwd=tmp_path)
    line = "left behind: id (number), metadata.source (text); --keep all carries them; also messages[].lang (text)"
    assert run.stderr.decode().splitlines()[-1] == line
    manifest = json.loads((tmp_path / "out" / ".chatfmt" / "manifest.json").read_text())
    counts = {name for name in manifest["shards"][0]["counts"] if name.startswith("left_")}
    assert counts == {
        "left_column.id (number)",
        "left_column.metadata.source (text)",
        "left_key.messages[].lang (text)",
    }
    report = json.loads(run_cli("convert", "in.jsonl", "-t", "chatml", "--json", cwd=tmp_path).stderr)
    assert report["left_columns"] == ["id (number)", "metadata.source (text)"]
    assert report["left_keys"] == ["messages[].lang (text)"]
    assert line in run_cli("inspect", "in.jsonl", cwd=tmp_path).stdout.decode().splitlines()
    checked = run_cli("check", "in.jsonl", cwd=tmp_path).stdout.decode().splitlines()
    assert line.partition("; also ")[0] in checked  # without a template, keys of turns are kept
    for command, keys in {"inspect": ["messages[].lang (text)"], "check": []}.items():
        report = json.loads(run_cli(command, "in.jsonl", "--json", cwd=tmp_path).stdout)
        assert (report["left_columns"], report["left_keys"]) == (["id (number)", "metadata.source (text)"], keys)
    assert run_cli("convert", "in.jsonl", "-t", "chatml", "-q", cwd=tmp_path).stderr == b""
    assert b"left behind" not in run_cli("convert", "in.jsonl", "--keep", "all", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        ({"reply_2": "It is grey."}, "`reply_2` looks like an answer", "--keep reply_2 copies it to the output; "
         "--drop reply_2 leaves it behind"),
        ({"my_system": "Answer in one word."}, "`my_system` looks like a system message",
         "--map system=my_system reads it; --keep my_system copies it to the output; "
         "--drop my_system leaves it behind"),
        ({"turns_b": TURNS[:1] + [{"role": "assistant", "content": "Grey today."}]}, "`turns_b` looks like turns",
         "--keep turns_b copies it to the output; --drop turns_b leaves it behind"),
        ({"log": json.dumps([{"from": "human", "value": "And at night?"}])}, "`log` looks like turns",
         "--keep log copies it to the output; --drop log leaves it behind"),
        ({"extra": {"turns": [{"from": "human", "value": "And at night?"}]}}, "`extra.turns` looks like turns",
         "--keep extra copies it to the output; --drop extra leaves it behind"),
        ({"my_tools": [{"name": "look", "description": "Looks up."}]}, "`my_tools` looks like tools",
         "--map tools=my_tools reads it; --keep my_tools copies it to the output; --drop my_tools leaves it behind"),
        ({"config": {"system_prompt": "Answer in one word."}}, "`config.system_prompt` looks like a system message",
         "--map system=config.system_prompt reads it; --keep config copies it to the output; "
         "--drop config leaves it behind"),
        ({"apis": [{"name": "look", "description": "Looks up."}]}, "`apis` looks like tools",
         "--map tools=apis reads it; --keep apis copies it to the output; --drop apis leaves it behind"),
        ({"toolset": [{"name": "look", "description": "Looks up."}]}, "`toolset` looks like tools",
         "--map tools=toolset reads it; --keep toolset copies it to the output; --drop toolset leaves it behind"),
        ({"shot": "data:image/png;base64,AAAA"}, "`shot` looks like media",
         "--keep shot copies it to the output; --drop shot leaves it behind"),
        ({"audio_path": "a/b.wav"}, "`audio_path` looks like media", "--map audios=audio_path reads it; "
         "--keep audio_path copies it to the output; --drop audio_path leaves it behind"),
        ({"passages": ["Rayleigh found that light scatters."]}, "`passages` looks like the context",
         "--keep passages copies it to the output; --drop passages leaves it behind"),
        ({"image_base64": "/9j/4AAQSkZJRg=="}, "`image_base64` looks like media", "--map images=image_base64 reads it; "
         "--keep image_base64 copies it to the output; --drop image_base64 leaves it behind"),
        ({"context": {"title": ["Rayleigh"], "sentences": [["He found that light scatters."]]}},
         "`context.sentences[]` looks like the context",
         "--keep context copies it to the output; --drop context leaves it behind"),
        ({"definition": "Answer in a full sentence."}, "`definition` looks like a question",
         "--keep definition copies it to the output; --drop definition leaves it behind"),
        ({"samples": ["It is grey.", "It is red."]}, "`samples` looks like an answer",
         "--keep samples copies it to the output; --drop samples leaves it behind"),
        ({"options": [{"key": "A", "value": "It is grey."}]}, "`options[].value` looks like an answer",
         "--keep options copies it to the output; --drop options leaves it behind"),
    ],
    ids=["answer", "system", "turns", "json", "nested", "tools", "config", "apis", "toolset", "data", "path",
         "passages", "base64", "inside", "definition", "samples", "options"],
)  # fmt: skip
def test_what_looks_like_conversation_is_refused(more, message, hint, tmp_path):
    source = write(tmp_path, {**TALK, **more}, {**TALK, **more})
    error = refusal(source, template="chatml")
    assert isinstance(error, UsageError)
    assert error.message == f"{message}, and would be left behind"
    assert error.hint == hint
    (root,) = more
    assert convert(source, drop=[root], template="chatml").rows == 2
    assert convert(source, keep=[root]).rows == 2
    assert json.loads(source.with_suffix(".out.jsonl").read_text().splitlines()[0])[root] == more[root]


@pytest.mark.parametrize(
    ("name", "values", "labels"),
    [("rating", ("good", "bad"), (True, False)), ("user_feedback", (1, -1), (True, False)),
     ("votes", ("\N{THUMBS DOWN SIGN}", "\N{THUMBS UP SIGN}"), (False, True)),
     ("feedback", ("down", "down"), (False, False)), ("response_correct", (1, 0), (True, False)),
     ("accepted", ("yes", "no"), (True, False)), ("chosen", (1, 0), (True, False))],
)  # fmt: skip
def test_verdicts_of_which_some_are_bad_are_labels(name, values, labels, tmp_path):
    source = write(tmp_path, *({"prompt": "Sky?", "completion": "Blue.", name: value} for value in values))
    error = refusal(source)
    assert error.message == f"`{name}` looks like a label, and would be left behind"
    assert error.hint.startswith(f"--map label={name} reads it; --keep {name} copies it to the output; ")
    assert convert(source, map={"label": name}).rows == 2
    written = source.with_suffix(".out.jsonl").read_text().splitlines()
    assert tuple(json.loads(line)["label"] for line in written) == labels


def test_no_hint_reads_an_answer_without_its_question(tmp_path):
    row = {
        "question": "Why is it blue?",
        "answer": "Light scatters.",
        "rules": [{"role": "system", "content": "Brief."}],
    }
    assert refusal(write(tmp_path, row)).hint == (
        "--keep question copies it to the output; --drop question leaves it behind; "
        "--keep answer copies it to the output; --drop answer leaves it behind"
    )


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        ({"question": "Sky?", "tool_calls": [{"name": "look", "arguments": {"at": "sky"}}],
          "tools": [{"name": "look"}]}, "--map tool_calls=tool_calls reads it"),
        ({"prompt": "Sky?", "choices": [{"text": "It is blue."}]},
         "--map completion='choices[0].text' reads the first"),
        ({"prompt": "Sky?", "completion": "Blue.", "documents": ["Light scatters."]},
         """--map context='{{ documents | join("\\n\\n") }}' reads its texts, joined"""),
        ({"instruction": "Sky?", "output": "Blue.", "rejected": "Green."},
         "--map chosen=output --map rejected=rejected reads it as the worse answer"),
        ({"response": "It is blue.", "messages": TURNS[:1]},
         "--map prompt=messages --map completion=response reads it as the answer"),
        ({"question": "Why is that?", "answer": "Light scatters.", "past": TURNS},
         "--map history=past reads it as the question after the turns"),
        ({"prompt": "Why?", "completion": "Light scatters.", "past_turns": [{"user": "Sky?", "assistant": "Blue."}]},
         "--map history=past_turns reads it"),
        ({"prompt": "Sky?", "good": {"type": "assistant", "content": "It is blue."},
          "bad": {"type": "assistant", "content": "It is red."}},
         "--map chosen=good --map rejected=bad reads it as one of two answers"),
        ({"system": "Brief.", "messages": TURNS[:1], "message": TURNS[1]},
         "--map prompt=messages --map completion=message reads it as the answer"),
    ],
    ids=["calls", "choices", "documents", "rejected", "response", "history", "past", "types", "message"],
)  # fmt: skip
def test_other_columns_of_an_answer_can_be_read(row, flags, tmp_path):
    source = write(tmp_path, row)
    assert refusal(source).hint.startswith(f"{flags}; --keep ")
    given = shlex.split(flags.partition(" reads")[0])
    run = run_cli("convert", source, *given, "-q")
    assert (run.returncode, run.stderr) == (0, b"")
    last = [value for value in row.values() if isinstance(value, str)][-1]
    assert all(text in run.stdout.decode() for text in (row[next(iter(row))], last))


@pytest.mark.parametrize(
    ("name", "label", "good"),
    [("is_correct", "is_correct", "is_correct"), ("rejected", "{{ not rejected }}", "not rejected")],
)
def test_bad_answers_can_be_left_out(name, label, good, tmp_path):
    verdicts = (name == "is_correct", name != "is_correct")
    source = write(tmp_path, *({"prompt": "Sky?", "completion": "Blue.", name: verdict} for verdict in verdicts))
    assert refusal(source).hint.startswith(
        f"--map label={shlex.quote(label)} reads it; --where {shlex.quote(good)} leaves out the bad ones; "
    )
    assert convert(source, map={"label": label}, to="unpaired-preference").rows == 2
    rows = source.with_suffix(".out.jsonl").read_text().splitlines()
    assert [json.loads(row)["label"] for row in rows] == [True, False]
    assert convert(source, where=good).rows == 1


@pytest.mark.parametrize(("values", "cast"), [((5, 2, None), ""), (("5", "2"), "|float")])
@pytest.mark.parametrize("name", ["stars", "reward"])
def test_numbers_that_may_rate_answers_are_noted(name, values, cast, tmp_path):
    source = write(tmp_path, *({"prompt": "Sky?", "completion": "Blue.", name: value} for value in values))
    note = f"note: if `{name}`, 2 to 5, rates the answers: --where '{name}{cast} >= MINIMUM' leaves out worse ones\n"
    assert note in run_cli("convert", source).stderr.decode()


def test_a_verdict_that_is_neither_good_nor_bad_is_an_error_of_its_row(tmp_path):
    values = ("good", "bad", "neutral")
    source = write(tmp_path, *({"prompt": "Sky?", "completion": "Blue.", "rating": value} for value in values))
    assert refusal(source).message == "`rating` looks like a label, and would be left behind"
    error = refusal(source, map={"label": "rating"})
    assert (error.message, error.at.row) == ("column `label` holds `neutral`, which is not good or bad", 2)
    assert convert(source, map={"label": "rating"}, on_error="skip").rows == 2


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rating", (1, 5)),
        ("rating", (1, 1)),
        ("rating", (0, 0)),
        ("votes", ("up", "up")),
        ("feedback", ("good", "Too long.")),
        ("gemini_grade", ("Yes", "No")),
        ("correct_answer", ("yes", "no")),
        ("incorrect", (True, False)),
        ("is_response_0_safe", (True, False)),
    ],
)
def test_other_ratings_are_metadata(name, values, tmp_path):
    source = write(tmp_path, *({"prompt": "Sky?", "completion": "Blue.", name: value} for value in values))
    assert convert(source).rows == 2


def test_verdicts_of_turns_that_the_template_does_not_print_are_labels(tmp_path):
    source = write(tmp_path, *({"messages": [TURNS[0], {**TURNS[1], "vote": vote}]} for vote in ("up", "down")))
    error = refusal(source, template="chatml")
    assert error.message == "`messages[].vote` looks like a label, and would be left behind"
    assert error.hint == "--drop messages.vote leaves it behind"
    assert convert(source, template="chatml", drop=["messages.vote"]).rows == convert(source).rows == 2


@pytest.mark.parametrize("place", [4, 1004], ids=["sampled", "later"])
@pytest.mark.parametrize(("name", "value"), [("context", "Of the day."), ("history", [["Hi there?", "Hello you."]])])
def test_what_comes_before_a_prompt_is_not_lost_where_there_is_none(name, value, place, tmp_path):
    pair = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    source = write(tmp_path, *[pair] * place, {**pair, name: value})
    assert f"`{name}" in refusal(source).message
    with pytest.raises(ChatfmtError, match="no dialect fits"):
        convert(source, map={name: name})


def test_turns_that_were_not_chosen_can_be_left_out(tmp_path):
    turns = [TURNS[0], {**TURNS[1], "if_chosen": True}, {"role": "model", "content": "Green.", "if_chosen": False}]
    source = write(tmp_path, {"conversation_history": turns})
    flags, _, what = refusal(source, template="chatml").hint.partition(";")[0].partition(" leaves out ")
    assert what == "the bad turns"
    done = run_cli("convert", source, "-t", "chatml", *shlex.split(flags), "-q")
    text = "<|im_start|>user\nSky?<|im_end|>\n<|im_start|>assistant\nIt is blue.<|im_end|>\n"
    assert json.loads(done.stdout) == {"text": text}


LOOK = {"name": "look", "parameters": {}}
DEEP = {"name": "look", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}


@pytest.mark.parametrize(
    "tools", [[{"type": "function", "function": LOOK}], [DEEP], json.dumps([LOOK])], ids=["empty", "deep", "text"]
)
def test_tools_inside_a_turn_that_the_template_does_not_print(tools, tmp_path):
    source = write(tmp_path, {"messages": [{**TURNS[0], "tools": tools}, TURNS[1]]})
    error = refusal(source, template="chatml")
    assert error.message == "`messages[].tools` looks like tools, and would be left behind"
    assert error.hint == "--drop messages.tools leaves it behind"
    assert convert(source, template="chatml", drop=["messages.tools"]).left_keys == ()
    assert convert(source).left_keys == ()


def test_calls_under_another_key_of_a_turn(tmp_path):
    calls = [{"name": "look", "arguments": {"at": "sky"}}]
    source = write(tmp_path, {"messages": [TURNS[0], {"role": "assistant", "content": "", "toolCalls": calls}]})
    error = refusal(source, template="qwen3")
    assert error.message == "`messages[].toolCalls` looks like calls, and would be left behind"
    assert error.hint == ("--map messages.tool_calls=toolCalls reads it; --drop messages.toolCalls leaves it behind")
    assert convert(source, template="qwen3", map={"messages.tool_calls": "toolCalls"}).left_keys == ()
    assert '"arguments\\": {\\"at\\": \\"sky\\"}' in source.with_suffix(".out.jsonl").read_text()


def test_reasoning_under_another_key_of_a_turn(tmp_path):
    source = write(tmp_path, {"messages": [TURNS[0], {**TURNS[1], "thoughts": "Light scatters."}]})
    error = refusal(source, template="qwen3")
    assert error.message == "`messages[].thoughts` looks like the reasoning, and would be left behind"
    mapping, dropping = error.hint.split("; ")
    assert mapping == "--map messages.reasoning=thoughts reads it"
    assert dropping == "--drop messages.thoughts leaves it behind"
    assert convert(source, template="qwen3", map={"messages.reasoning": "thoughts"}).left_keys == ()
    out = source.with_suffix(".out.jsonl")
    assert "<think>\nLight scatters.\n</think>" in json.loads(out.read_text())["text"]
    out.unlink()
    lists = {"role": ["user", "assistant"], "content": ["Sky?", "Blue."], "thoughts": ["", "Light."], "note": ["", "n"]}
    parallel = write(tmp_path, {"messages": lists})
    assert refusal(parallel, template="qwen3").hint == error.hint
    assert convert(parallel, template="chatml", drop=["messages.thoughts"]).left_keys == ("messages[].note (text)",)
    parallel.with_suffix(".out.jsonl").unlink()
    both = write(tmp_path, {"messages": [TURNS[0], {**TURNS[1], "thoughts": "Light scatters.", "reasoning": "Blue."}]})
    assert refusal(both, template="qwen3").hint == dropping


@pytest.mark.parametrize(
    "call",
    [{"function_name": "f", "kwargs": {"c": 1}}, {"tool_name": "f", "tool_input": {"c": 1}},
     {"type": "custom", "custom": {"name": "f", "input": "look it up"}}],
)  # fmt: skip
def test_calls_under_other_keys_are_printed(call, tmp_path):
    source = write(tmp_path, {"messages": [TURNS[0], {**TURNS[1], "tool_calls": [call]}]})
    assert convert(source, template="qwen3").left_keys == ()


def test_an_object_that_a_tool_returned_is_printed(tmp_path):
    call = {"function": {"name": "f", "arguments": {}}}
    turns = [
        TURNS[0],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": {"c": 1}},
    ]
    assert convert(write(tmp_path, {"messages": [*turns, TURNS[1]]}), template="llama-3.1").left_keys == ()
    assert '{"c": 1}' in json.loads((tmp_path / "in.out.jsonl").read_text())["text"]


def test_marked_texts_beside_a_question_and_its_answer_are_metadata(tmp_path):
    source = write(tmp_path, {"question": "Sky?", "answer": "It is blue.", "quotes_seen": ["User: x", "Model: y"]})
    assert convert(source).left_columns == ("quotes_seen[] (text)",)
    assert json.loads(source.with_suffix(".out.jsonl").read_text()) == TALK


def test_tools_that_a_turn_used_are_an_annotation(tmp_path):
    source = write(tmp_path, {"messages": [{**TURNS[0], "tools": [{"name": "look", "seconds": 3}]}, TURNS[1]]})
    assert convert(source, template="chatml").rows == 1


def test_the_command_line_refuses_before_the_first_row(tmp_path):
    write(tmp_path, {**TALK, "my_cot": "Light scatters."}, {**TALK, "my_cot": "Light scatters."})
    run = run_cli("convert", "in.jsonl", "-t", "chatml", "-o", "out.jsonl", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.decode().startswith(
        "error: in.jsonl: `my_cot` looks like the reasoning, and would be left behind\nhint: "
    )
    assert not (tmp_path / "out.jsonl").exists()
    shown = run_cli("inspect", "in.jsonl", cwd=tmp_path)
    assert shown.returncode == 2 and "convert it with" not in shown.stdout.decode()
    assert run_cli("convert", "in.jsonl", "-t", "chatml", "--drop", "my_cot", cwd=tmp_path).returncode == 0


def test_a_dropped_column_is_not_read(tmp_path):
    source = write(tmp_path, {**TALK, "system": "Be brief."})
    assert convert(source, drop=["system"]).rows == 1
    assert json.loads(source.with_suffix(".out.jsonl").read_text()) == TALK


@pytest.mark.parametrize("key", ["loss_mask", "train_detail_2", "rationale"])
def test_a_key_of_turns_that_the_template_does_not_print(key, tmp_path):
    value = "Short waves scatter most." if key == "rationale" else 0
    source = write(tmp_path, {"messages": [TURNS[0], {**TURNS[1], key: value}]})
    error = refusal(source, template="chatml")
    part = "the reasoning" if key == "rationale" else "what to train on"
    assert error.message == f"`messages[].{key}` looks like {part}, and would be left behind"
    mapping = "--map messages.reasoning=rationale reads it; " if key == "rationale" else ""
    assert error.hint == f"{mapping}--drop messages.{key} leaves it behind"
    assert convert(source, template="chatml", drop=[f"messages.{key}"]).left_keys == ()
    assert convert(source).left_keys == ()
    assert convert(source, drop=[f"messages.{key}"]).rows == 1
    assert json.loads(source.with_suffix(".out.jsonl").read_text()) == TALK


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("system", "Be brief, please.", "a system message"),
        ("text", "And another question?", "content"),
        ("train_detail_2", [{"begin": 0, "train": False}], "what to train on"),
        ("function_calls", [{"name": "look", "arguments": {"q": "sky"}}], "calls"),
        ("action", {"tool": "look", "args": {"q": "sky"}}, "calls"),
        ("toolInvocations", [{"toolName": "look", "args": {"q": "sky"}}], "calls"),
        ("reasoning_details", [{"type": "summary", "text": "Short waves scatter."}], "the reasoning"),
    ],
)
def test_keys_that_templates_have_as_words_but_do_not_print(key, value, part, tmp_path):
    source = write(tmp_path, {"messages": [{**TURNS[0], key: value}, TURNS[1]]})
    error = refusal(source, template="chatml")
    assert error.message.endswith(f" looks like {part}, and would be left behind")
    assert error.message.startswith(f"`messages[].{key}")
    assert convert(source, template="chatml", drop=[f"messages.{key}"]).left_keys == ()


def test_a_name_to_drop_that_is_nowhere_is_noted(tmp_path):
    write(tmp_path, TALK)
    run = run_cli("convert", "in.jsonl", "--drop", "scroe", cwd=tmp_path)
    assert b"note: no sampled row has a value in the column `scroe`, which --drop names\n" in run.stderr


def test_what_the_user_maps_inside_turns_is_used(tmp_path):
    turns = [{"by": {"kind": role, "age": 1}, "body": {"text": "Sky?"}} for role in ("user", "assistant")]
    read = {"messages": "talk.turns", "messages.role": "by.kind", "messages.content": "body.text"}
    found = convert(write(tmp_path, {"talk": {"turns": turns}}), map=read, template="chatml")
    assert (found.rows, found.left_keys) == (1, ("talk.turns[].by.age (number)",))
    flat = [{"id": 1, "turn": n, "role": turn["role"], "content": "a"} for n, turn in enumerate(TURNS)]
    assert convert(write(tmp_path, *flat), group_by=["id"], order_by="turn", template="chatml").left_keys == ()
    call = {"role": "assistant", "tool_calls": [{"function": "f", "args": {"a": 1}}]}
    assert convert(write(tmp_path, {"messages": [TURNS[0], call]}), template="qwen3").left_keys == ()


def test_a_column_whose_name_is_in_quotes_is_read(tmp_path):
    row = {"the question": "Sky?", "a.log": [TURNS[0]], "the note": "x", "answer": "It is blue."}
    text = "{{ row['the question'] }} {{ row[\"a.log\"][0].content }}"
    summary = convert(write(tmp_path, row), map={"user": text, "assistant": "answer"}, where="row['the note'] == 'x'")
    assert summary.left_columns == ()


def test_what_the_user_chose_leaves_the_others(tmp_path):
    row = {"question": "Sky?", "question_b": "And the sea, then?", "answer": "Blue.", "answer_b": "It is grey today."}
    source = write(tmp_path, row, row)
    assert refusal(source).message.startswith("`question_b` looks like a question, `answer_b` looks like an answer")
    chosen = convert(source, map={"prompt": "question", "completion": "answer"})
    assert chosen.left_columns == ("answer_b (text)", "question_b (text)")
    assert convert(source, to="prompt", map={"prompt": "question"}).left_columns == (
        "answer_b (text)",
        "question_b (text)",
    )


def test_a_column_after_the_sample_is_named(tmp_path):
    rows = [TALK] * 2500 + [{**TALK, "seen": "once"}] + [{"messages": [{**turn, "mood": "calm"} for turn in TURNS]}]
    summary = convert(write(tmp_path, *rows), template="chatml")
    assert (summary.rows, summary.left_columns, summary.left_keys) == (
        2502,
        ("seen (text)",),
        ("messages[].mood (text)",),
    )


def test_conversation_after_the_sample_is_an_error_of_its_row(tmp_path):
    rows = [TALK] * 2500 + [{**TALK, "my_thoughts": "Light scatters."}] + [TALK]
    source = write(tmp_path, *rows)
    error = refusal(source, template="chatml")
    assert isinstance(error, DialectError) and (error.at.row, error.code) == (2500, "col.late")
    message = "`my_thoughts`, which is empty in the sample, looks like the reasoning and would be left behind"
    assert (error.message, error.hint) == (message, "--drop my_thoughts leaves it behind")
    assert convert(source, template="chatml", on_error="skip").reasons == {"col.late": 1}
    assert convert(source, template="chatml", drop=["my_thoughts"]).left_columns == ()


def test_a_column_that_the_sample_leaves_behind_is_not_judged_again(tmp_path):
    """The bad row makes `messages` JSON in the sample, so that its keys are new in the second shard."""
    rows = [{**TALK, "label_": label} for label in (-5, 7, 1)]
    source = write(tmp_path, *rows, {"messages": "", "label_": 1})
    summary = convert(source, on_error="skip", max_bad="50%", rows_per_shard=2)
    assert (summary.rows, summary.reasons, summary.left_columns) == (3, {"col.type": 1}, ("label_ (number)",))


def test_reasoning_after_the_sample_can_be_read(tmp_path):
    late = {**TURNS[1], "my_thoughts": "Light scatters."}
    source = write(tmp_path, *[TALK] * 2500, {"messages": [TURNS[0], late]})
    error = refusal(source, template="qwen3")
    flags = ("--map messages.reasoning=my_thoughts reads it", "--drop messages.my_thoughts leaves it behind")
    assert (error.at.row, error.hint) == (2500, "; ".join(flags))
    assert convert(source, template="qwen3", map={"messages.reasoning": "my_thoughts"}).rows == 2501
    last = source.with_suffix(".out.jsonl").read_text().splitlines()[-1]
    assert "<think>\\nLight scatters.\\n</think>" in last


def test_a_parquet_column_that_is_empty_in_the_sample(tmp_path):
    source = tmp_path / "in.parquet"
    names: dict[str, list[str | None]] = {name: [None] * 1500 + ["It is the light."] for name in ("note", "my_answer")}
    pq.write_table(pa.table({"messages": [TURNS] * 1501, "note": names["note"]}), source)
    assert convert(source, template="chatml").left_columns == ("note (text)",)
    pq.write_table(pa.table({"messages": [TURNS] * 1501, **names}), source)
    source.with_suffix(".out.jsonl").unlink()
    assert refusal(source, template="chatml").at.row == 1500


def test_sources_that_are_read_alike_have_ledgers_of_their_own(tmp_path):
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.jsonl", [{**TALK, name: 1}])
    recipe = chatfmt.Recipe(source=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    summary = chatfmt.convert(recipe, tmp_path / "out.jsonl", executor="serial")
    assert summary.left_columns == ("a (number)", "b (number)")


def test_bad_rows_of_the_sample_hide_no_leaf(tmp_path):
    bad = {"messages": [{"role": "robot", "content": "Hi."}], "my_answer": "It is the light."}
    source = write(tmp_path, bad, {**TALK, "note": "a"}, bad, {**TALK, "my_answer": "It is the light."})
    assert refusal(source, on_error="skip").message == "`my_answer` looks like an answer, and would be left behind"
    assert convert(source, on_error="skip", drop=["my_answer"], max_bad="100%").left_columns == ("note (text)",)


def test_names_with_dots_and_deep_values(tmp_path):
    deep: Any = "x"
    for _ in range(110):
        deep = [deep]
    row = {
        "data.question": "Sky?",
        "data.answer": "It is blue.",
        "data.note": "a",
        "deep": deep,
        "dashes": "-" * 9999,
    }
    keys = {"map": {"prompt": "data.question", "completion": "data.answer"}}
    assert convert(write(tmp_path, row, row), **keys).left_columns == (
        "dashes (text)", "data.note (text)", "deep[][] (list)",
    )  # fmt: skip
    more = {**row, "data.cot": "Light of short waves scatters."}
    source = write(tmp_path, more, more)
    source.with_suffix(".out.jsonl").unlink()
    error = refusal(source, **keys)
    assert error.hint.endswith("--keep data.cot copies it to the output; --drop data.cot leaves it behind")
    assert convert(source, **keys, drop=["data.cot"]).rows == 2


def test_names_that_are_renamed_to_roles_are_used(tmp_path: Path) -> None:
    turns = [{"speaker": "guest", "text": "Sky?"}, {"speaker": "Bo", "text": "Blue."}]
    write_rows(tmp_path / "in.jsonl", [{"talk": turns}])
    for flags in (["--role", "guest=user", "--role", "Bo=assistant"], ["--me", "Bo"]):
        run = run_cli("convert", "in.jsonl", *flags, cwd=tmp_path)
        said = run.stderr.decode()
        assert run.returncode == 0 and json.loads(run.stdout)["messages"] == TURNS[:1] + [
            {"role": "assistant", "content": "Blue."}
        ], said
        assert said == f"wrote 1 row to stdout, {len(run.stdout)} B\n"


BATCH = [
    {"custom_id": "a", "body": {"messages": TURNS[:1]}},
    {"custom_id": "a", "response": {"body": {"choices": [
        {"index": 0, "message": TURNS[1]}, {"index": 1, "message": {"role": "assistant", "content": "Grey today."}},
    ]}}},
]  # fmt: skip


def test_further_choices_of_a_batch_result_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "requests.jsonl", [BATCH[0]])
    write_rows(tmp_path / "results.jsonl", [BATCH[1]])
    command = ["convert", "openai-batch", "requests.jsonl", "results.jsonl"]
    run = run_cli(*command, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.decode().endswith(
        ": `response.body.choices[1:].message` looks like content, and would be left behind\n"
        "hint: --drop 'response.body.choices[1:]' leaves it behind\n"
    )
    dropped = run_cli(*command, "--drop", "response.body.choices[1:]", cwd=tmp_path)
    assert json.loads(dropped.stdout) == {"prompt": TURNS[:1], "completion": TURNS[1:]}


def test_an_answer_beside_the_turns_of_a_log_has_its_flags(tmp_path: Path) -> None:
    log = {"messages": TURNS[:1], "response": {"choices": [{"message": TURNS[1]}]}}
    write_rows(tmp_path / "log.jsonl", [log])
    run = run_cli("convert", "log.jsonl", cwd=tmp_path)
    flags, _, end = run.stderr.decode().partition("hint: ")[2].partition(" reads it as the answer; ")
    assert (run.returncode, flags, end) == (
        2, "--map prompt=messages --map completion='response.choices[0].message'",
        "--keep response copies it to the output; --drop response leaves it behind\n",
    )  # fmt: skip
    read = run_cli("convert", "log.jsonl", *shlex.split(flags), cwd=tmp_path)
    assert json.loads(read.stdout) == {"prompt": TURNS[:1], "completion": TURNS[1:]}


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("answers[0]", "answers[1:]"),
        ("answers[-1]", "answers[:-1]"),
        ("answers[1]", "answers[:1]"),
        ("{{ answers[0] }}", "answers[1:]"),
        ("{{ answers | last }}", "answers[:-1]"),
        ("{{ answers[0] }} {{ answers[2] }}", "answers[1:2]"),
    ],
)
def test_items_that_no_path_reads(answer: str, left: str, tmp_path: Path) -> None:
    source = write(tmp_path, {"q": "Sky?", "answers": ["It is blue.", "Grey it was.", "No sky there."]})
    error = refusal(source, map={"prompt": "q", "completion": answer})
    assert error.message.startswith(f"`{left}` looks like an answer")
    assert error.hint.startswith(f"--drop '{left}' leaves it behind")
    drop = [error.hint.split("'")[1] for _ in range(1)] + ["answers[2:]"] * (answer == "answers[1]")
    assert convert(source, map={"prompt": "q", "completion": answer}, drop=drop).left_keys == ()


def test_items_that_another_path_reads_or_that_repeat_are_not_left(tmp_path: Path) -> None:
    keys = {"map": {"prompt": "q", "completion": "answers[0]", "source_answers": "answers"}, "keep": ["source_answers"]}
    assert convert(write(tmp_path, {"q": "Sky?", "answers": ["It is blue.", "Grey."]}), **keys).rows == 1
    alike = {"q": "Sky?", "answers": ["It is blue.", "It is blue."]}
    assert convert(write(tmp_path, alike), map={"prompt": "q", "completion": "answers[0]"}).left_keys == ()


def test_blocks_inside_turns_that_a_path_leaves(tmp_path: Path) -> None:
    turns = [{"role": turn["role"], "body": [{"text": turn["content"]}, {"text": "And more of it."}]} for turn in TURNS]
    error = refusal(write(tmp_path, {"messages": turns}), map={"messages.content": "body[0].text"}, template="chatml")
    assert error.message == "`messages[].body[1:].text` looks like content, and would be left behind"


def test_what_decides_which_answer_is_chosen_is_used(tmp_path: Path) -> None:
    answers = [{"text": "Blue.", "score": 5, "model": "a"}, {"text": "Green.", "score": 1, "model": "b"}]
    source = write(tmp_path, {"prompt": "Sky?", "responses": answers})
    assert convert(source).left_keys == ("responses[].model (text)",)
    source = write(tmp_path, {"prompt": "Sky?", "responses": answers, "scores": [2, 1]})
    assert convert(source).left_keys == ("responses[].model (text)", "responses[].score (number)")
    replies = [{"role": "assistant", "text": text, "rank": rank, "lang": "en"} for rank, text in enumerate("ab")]
    source = write(tmp_path, {"prompt": {"role": "prompter", "text": "q", "deleted": False, "replies": replies}})
    assert convert(source).left_keys == ("prompt.replies[].lang (text)",)


@pytest.mark.parametrize("format", ["jsonl", "parquet", "text"])
def test_an_item_after_the_sample_is_an_error_of_its_row(format: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"q": "Sky?", "answers": ["It is blue."]}] * 1500
    rows.append({"q": "Sky?", "answers": ["It is blue.", "Grey it was."]})
    if format == "text":
        rows = [{**row, "answers": json.dumps(row["answers"])} for row in rows]
    source = write(tmp_path, *rows)
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), source := tmp_path / "in.parquet")
    error = refusal(source, map={"prompt": "q", "completion": "answers[0]"})
    assert (error.code, error.at.row, error.hint) == ("col.late", 1500, "--drop 'answers[1:]' leaves it behind")


def test_a_column_that_is_dropped_takes_no_key_from_turns(tmp_path: Path) -> None:
    source = write(tmp_path, {**TALK, "meta": {"content": "a b"}})
    assert convert(source, drop=["meta.content"]).rows == 1
    assert json.loads(source.with_suffix(".out.jsonl").read_text()) == TALK


def test_a_type_of_an_argument_that_becomes_one_of_json_schema_is_not_left_behind(tmp_path):
    items = {"points": {"type": "array", "items": {"type": "float"}, "description": "The points."}}
    tool = {"name": "f", "description": "Add.", "parameters": {"type": "dict", "properties": items}}
    summary = convert(write(tmp_path, {"id": "simple_1", "question": [[TURNS[0]]], "function": [tool]}))
    assert '"items":{"type":"number"}' in (tmp_path / "in.out.jsonl").read_text()
    assert (summary.left_columns, summary.left_keys) == (("id (text)",), ())


@pytest.mark.parametrize("content", [["How", "ever"], [{"type": "text", "text": "How"}, "ever"], "However"])
def test_pieces_of_a_text_are_not_left_behind(content: Any, tmp_path: Path) -> None:
    """Words that a boundary between pieces cuts are words of no text, and in the text all the same."""
    lists = [{"role": "user", "content": content}, {"role": "assistant", "content": ["Fine", "thanks"]}]
    source = write(tmp_path, TALK, {"messages": lists})
    summary = convert(source)
    assert (summary.left_columns, summary.left_keys) == ((), ())
    made = [json.loads(line)["messages"] for line in source.with_suffix(".out.jsonl").read_text().splitlines()]
    joined = [{"role": "user", "content": "However"}, {"role": "assistant", "content": "Finethanks"}]
    assert made == [TURNS, joined]


@pytest.mark.parametrize(("name", "read"), [("context", "context"), ("my context", 'row["my context"]')])
def test_texts_in_a_list_are_joined_by_the_flag_of_the_hint(name: str, read: str, tmp_path: Path) -> None:
    source = write(tmp_path, *[{"question": "Sky?", name: ["It is day.", "It is dry."], "answer": "Blue."}] * 2)
    flag = f"--map context='{{{{ {read} | join(\"\\n\\n\") }}}}'"
    assert refusal(source).hint.startswith(f"{flag} reads its texts, joined; --keep ")
    run = run_cli("convert", source, *shlex.split(flag), "-q")
    asked = [json.loads(line)["messages"][0]["content"] for line in run.stdout.splitlines()]
    assert asked == ["Sky?\nIt is day.\n\nIt is dry."] * 2
    named = flag.replace(f"{read} |", "COLUMN |")
    assert refusal(source, map={"context": name}).hint == f"join its texts with {named}"


def test_a_large_text_is_compared_without_a_list_of_its_words(tmp_path: Path) -> None:
    text = "ab " * 1_000_000
    source = write(tmp_path, {**TALK, "extra": text})
    tracemalloc.start()
    try:
        summary = convert(source)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert summary.left_columns == ("extra (text)",)
    assert peak < 24 * len(text)


def test_no_column_that_is_left_hides_behind_the_keys_of_another(tmp_path):
    info = {f"k{n}": n for n in range(6)}
    write(tmp_path, {"messages": TURNS, "info": info, "reward_model": {"style": "rule", "ground_truth": "2"}})
    line = run_cli("convert", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path).stderr.decode().splitlines()[-1]
    named = "info.* (6 keys), reward_model.* (2 keys)"
    assert line == f"left behind: {named}; --keep all carries them (--json lists all)"


def test_keys_of_turns_that_only_some_rows_leave_behind_are_named(tmp_path: Path) -> None:
    rated = [TURNS[0], {**TURNS[1], "score": 0.5}]
    pair = [{"user": "Sky?", "assistant": "Blue.", "score": 0.25}]
    source = write(tmp_path, *[{"messages": rated}] * 3, {"messages": pair})
    assert convert(source).left_keys == ("messages[].score (number)",)


@pytest.mark.parametrize(
    ("keys", "kept", "left"),
    [
        ({"keep": "all"}, {"id": "f1", "meta": {"x": 1}}, []),
        ({"keep": ["meta"]}, {"meta": {"x": 1}}, ["faqs[].id (text)"]),
        ({"keep": "all", "map": {"user": "meta.q"}}, {"id": "f1", "meta": {"x": 1}}, []),
        ({}, {}, ["faqs[].id (text)", "faqs[].meta.x (number)"]),
    ],
)
def test_what_keep_carries_is_not_left_behind(
    keys: dict[str, Any], kept: dict[str, Any], left: list[str], tmp_path: Path
) -> None:
    faq = {"question": "Sky?", "answer": "It is blue.", "id": "f1", "meta": {"x": 1}}
    if "map" in keys:
        faq["meta"] = kept["meta"] = {"x": 1, "q": faq.pop("question")}
    source = write(tmp_path, {"id": "r1", "faqs": [faq]})
    summary = convert(source, explode="faqs", **keys)
    assert summary.notes == ("`--explode faqs` replaces `id` of the row by that of each item",)
    assert json.loads(source.with_suffix(".out.jsonl").read_text()) == {"messages": TURNS, **kept}
    assert sorted((*summary.left_columns, *summary.left_keys)) == sorted(
        left + ["id (text)"] * (keys.get("keep") != "all")
    )


def test_keys_of_a_thought_that_joins_its_answer_are_named(tmp_path: Path) -> None:
    thought = {"role": "assistant", "channel": "analysis", "content": "Light scatters.", "id": "t1", "n": 1}
    source = write(tmp_path, {"messages": [TURNS[0], thought, {**TURNS[1], "channel": "final", "id": "t2", "n": 1}]})
    assert convert(source).left_keys == ("messages[].id (text)",)
    answer = {**TURNS[1], "id": "t2", "n": 1, "reasoning_content": "Light scatters.", "channel": "final"}
    assert json.loads(source.with_suffix(".out.jsonl").read_text()) == {"messages": [TURNS[0], answer]}
