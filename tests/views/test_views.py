"""Views: TRL's dataset types, rendered as TRL renders them, cut so that the parts are the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

import chatfmt
from chatfmt import ChatTemplate
from chatfmt.errors import RowError, UnknownName, UsageError
from chatfmt.json_columns import decode_conversations, encode_conversations
from chatfmt.recipe import Recipe
from chatfmt.views import VIEWS, choose
from chatfmt.views.batch import RenderableBatch
from chatfmt.views.split import prompt_completion

from ..conftest import read_rows, write_rows

U, A, S = ({"role": role, "content": f"{role} says"} for role in ("user", "assistant", "system"))
A2 = {"role": "assistant", "content": "another"}
CHATML = ChatTemplate.load("chatml")


def convert(tmp_path: Path, rows: list[dict[str, object]], **recipe: object) -> list[dict[str, object]]:
    write_rows(tmp_path / "in.jsonl", rows)
    chatfmt.convert(Recipe(source=str(tmp_path / "in.jsonl"), **recipe), out=tmp_path / "out.jsonl", overwrite=True)
    return read_rows(tmp_path / "out.jsonl")


def text(*turns: dict[str, str], prompt: bool = False) -> str:
    return CHATML.render(list(turns), add_generation_prompt=prompt)


CHAT = [{"messages": [S, U, A, U, A2]}, {"messages": [U, A]}]
PAIR = [{"prompt": [S, U], "chosen": [A], "rejected": [A2]}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
WITH_TOOLS = [{**PAIR[0], "tools": TOOLS}]
IMPLICIT = [{"chosen": [S, U, A], "rejected": [S, U, A2]}]


@pytest.mark.parametrize("template", [None, "chatml"])
@pytest.mark.parametrize(
    ("rows", "to", "plain", "rendered"),
    [
        (CHAT, "auto", CHAT, [{"text": text(S, U, A, U, A2)}, {"text": text(U, A)}]),
        (CHAT, "prompt-completion",
         [{"prompt": [S, U, A, U], "completion": [A2]}, {"prompt": [U], "completion": [A]}],
         [{"prompt": text(S, U, A, U, prompt=True), "completion": "another<|im_end|>\n"},
          {"prompt": text(U, prompt=True), "completion": "assistant says<|im_end|>\n"}]),
        (CHAT, "prompt", [{"prompt": [S, U, A, U]}, {"prompt": [U]}],
         [{"prompt": text(S, U, A, U, prompt=True)}, {"prompt": text(U, prompt=True)}]),
        (PAIR, "auto", PAIR, [{"prompt": text(S, U, prompt=True), "chosen": "assistant says<|im_end|>\n",
                               "rejected": "another<|im_end|>\n"}]),
        (IMPLICIT, "auto", PAIR, [{"prompt": text(S, U, prompt=True), "chosen": "assistant says<|im_end|>\n",
                                   "rejected": "another<|im_end|>\n"}]),
        (PAIR, "unpaired-preference",
         [{"prompt": [S, U], "completion": [A], "label": True}, {"prompt": [S, U], "completion": [A2], "label": False}],
         [{"prompt": text(S, U, prompt=True), "completion": "assistant says<|im_end|>\n", "label": True},
          {"prompt": text(S, U, prompt=True), "completion": "another<|im_end|>\n", "label": False}]),
        (CHAT[1:], "instruction", [{"instruction": "user says", "output": "assistant says"}],
         [{"instruction": text(U, prompt=True), "output": "assistant says<|im_end|>\n"}]),
        (PAIR, "preference-conversations", IMPLICIT, [{"chosen": text(S, U, A), "rejected": text(S, U, A2)}]),
        (IMPLICIT, "preference-messages", *[[{"messages": [S, U], "chosen": A, "rejected": A2}]] * 2),
        (IMPLICIT, "ranked-completions",
         *[[{"context": [S, U],
             "completions": [{"rank": 0, "completion": [A]}, {"rank": 1, "completion": [A2]}]}]] * 2),
        (IMPLICIT, "rejected-response", *[[{"messages": [S, U, A], "rejected_response": "another"}]] * 2),
        (PAIR, "unpaired-messages",
         *[[{"messages": [S, U, A], "label": True}, {"messages": [S, U, A2], "label": False}]] * 2),
        ([{"messages": [U, A], "label": False}], "unpaired-messages", *[[{"messages": [U, A], "label": False}]] * 2),
        (WITH_TOOLS, "openai-preference",
         *[[{"input": {"messages": [S, U], "tools": TOOLS}, "preferred_output": [A], "non_preferred_output": [A2]}]] * 2
        ),
        (PAIR, "messages", [{"messages": [S, U, A]}], [{"messages": [S, U, A]}]),
        ([{"prompt": [U, A, U]}], "auto", [{"prompt": [U, A, U]}], [{"prompt": text(U, A, U, prompt=True)}]),
        ([{"prompt": [U], "completion": [A], "label": False}], "auto",
         [{"prompt": [U], "completion": [A], "label": False}],
         [{"prompt": text(U, prompt=True), "completion": "assistant says<|im_end|>\n", "label": False}]),
        ([{"text": "done"}], "auto", [{"text": "done"}], [{"text": "done"}]),
    ],
)  # fmt: skip
def test_views(tmp_path, rows, to, plain, rendered, template):
    assert convert(tmp_path, rows, to=to, template=template) == (plain if template is None else rendered)


def test_segments_are_the_text_in_order(tmp_path):
    made = convert(tmp_path, CHAT, to="segments", template="chatml")
    assert ["".join(part["text"] for part in row["segments"]) for row in made] == [text(S, U, A, U, A2), text(U, A)]
    assert [part["text"] for part in made[1]["segments"] if part["label"]] == ["assistant says<|im_end|>"]


def test_spans_lie_on_the_trained_text(tmp_path):
    (row, _) = convert(tmp_path, CHAT, mask=True, template="chatml")
    assert [row["text"][start:end] for start, end in row["assistant_spans"]] == [
        "assistant says<|im_end|>", "another<|im_end|>",
    ]  # fmt: skip
    (row, _) = convert(tmp_path, CHAT, mask=True, template="chatml", mask_stop_token=False, mask_last=True)
    assert [row["text"][start:end] for start, end in row["assistant_spans"]] == ["another"]


def test_what_has_no_answer_cannot_be_cut(tmp_path):
    with pytest.raises(RowError, match="row 1: the conversation does not end with an answer to a prompt"):
        convert(tmp_path, [CHAT[0], {"messages": [U, A, U]}], to="prompt-completion")
    with pytest.raises(UsageError, match="this view is text and needs a template"):
        convert(tmp_path, CHAT, to="text")
    with pytest.raises(UnknownName, match="unknown view `txt`"):
        convert(tmp_path, CHAT, to="txt")
    with pytest.raises(UsageError, match="the data has no `chosen`"):
        convert(tmp_path, CHAT, to="preference")


def test_an_answer_that_the_form_cannot_hold_is_an_error(tmp_path):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}
    several = [*PAIR, {"prompt": [U], "chosen": [A], "rejected": [A2, U, A]}]
    swapped = [*PAIR, {**several[1], "chosen": several[1]["rejected"], "rejected": [A]}]
    for rows, view in [
        (several, "preference-messages"),
        (swapped, "rejected-response"),
        (swapped, "openai-preference"),
    ]:
        with pytest.raises(RowError, match="row 1: an answer of the pair is not one message") as found:
            convert(tmp_path, rows, to=view)
        assert found.value.hint.startswith("--to preference-conversations writes whole conversations")
    with pytest.raises(RowError, match="row 1: an answer of the pair is more than text"):
        convert(tmp_path, [*PAIR, {"prompt": [U], "chosen": [A], "rejected": [call]}], to="rejected-response")
    with pytest.raises(RowError, match="row 0: the conversation is more than one question and its answer"):
        convert(tmp_path, CHAT, to="instruction")
    made = convert(tmp_path, several, to="preference-conversations")
    assert made[1] == {"chosen": [U, A], "rejected": [U, A2, U, A]}
    with pytest.raises(UsageError, match="the data has no `chosen`"):
        convert(tmp_path, CHAT, to="openai-preference")


INPUTS = {"tools": [{"type": "function", "function": {"name": "f"}}], "documents": [{"text": "t"}],
          "chat_template_kwargs": {"date": "d"}}  # fmt: skip
"""What a template may read beside a conversation, by column."""


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("to", [name for name in VIEWS if name not in ("text", "segments", "tokens", "stepwise")])
def test_what_a_template_reads_beside_a_conversation_is_written_or_an_error(tmp_path, to, name):
    rows = PAIR if VIEWS[to].beside == "rejected" else [CHAT[1]]
    more = {"label": True} if VIEWS[to].beside == "label" else {VIEWS[to].reads: "gsm8k"} if VIEWS[to].reads else {}
    try:
        (made,) = convert(tmp_path, [{**rows[0], **more, name: INPUTS[name]}], to=to)
    except RowError as error:
        assert error.message == f"the form {to} has no place for `{name}`"
    else:
        found = made[name] if name in made else made["input"][name]
        assert found == INPUTS[name] or (to == "sharegpt" and json.loads(found) == INPUTS[name])


def test_a_kept_column_cannot_have_the_name_of_a_view_column(tmp_path):
    rows = [{**CHAT[1], "output": "other", "id": 1}]
    assert convert(tmp_path, rows, to="instruction", keep=["all"]) == [
        {"instruction": "user says", "output": "assistant says", "id": 1}
    ]
    with pytest.raises(UsageError, match="the column `output` cannot be kept: the output needs the name"):
        convert(tmp_path, rows, to="instruction", keep=["output"])


def test_parts_of_a_batch_are_parts_of_its_views():
    rows = [[S, U, A], [U, A2], [U, A, U, A]]
    batch = pa.RecordBatch.from_pydict({"row": pa.array([0, 1, 2]), "messages": encode_conversations(rows)})
    whole = prompt_completion(RenderableBatch(batch, None))
    for start in range(3):
        part = prompt_completion(RenderableBatch(batch.slice(start), None))
        for name in ("prompt", "completion"):
            assert decode_conversations(part[name]) == decode_conversations(whole[name])[start:]


def test_every_type_has_one_view_at_most():
    types = [view.own_type for view in VIEWS.values() if view.own_type]
    assert len(types) == len(set(types)) == 7 and all(view.summary for view in VIEWS.values())
    chosen = [choose("auto", "language-modeling", rendered=rendered) for rendered in (True, False)]
    assert chosen == ["text", "messages"]


def test_a_prompt_ends_before_the_answer_whatever_other_rows_end_with(tmp_path):
    question, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    result = {"role": "tool", "content": "r"}
    rows = [[question, answer], [question], [question, answer, question, answer], [question, answer, result]]
    made = convert(tmp_path, [{"messages": turns} for turns in rows], to="prompt")
    prompts = [[question], [question], [question, answer, question], [question, answer, result]]
    assert made == [{"prompt": prompt} for prompt in prompts]
