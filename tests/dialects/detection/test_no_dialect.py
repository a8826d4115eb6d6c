"""Rows that no dialect fits, or that are ambiguous: the message names the columns, and the hint works when typed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from chatfmt.dialects import Columns
from chatfmt.errors import NoDialect, UnknownName, UsageError

from ...conftest import from_lines, run_here, write_rows
from ..batches import convert

TURN = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "plain text in a column of its own": (
        {"content": "def f(): ...", "path": "a.py", "size": 3},
        "no dialect fits: the columns are `content`, `path`, `size`",
        "map a column of turns with --map messages=COLUMN; or plain text: --map text=content",
    ),
    "natural language inference": (
        {"premise": "A", "hypothesis": "B", "label": 0},
        "no dialect fits: the columns are `premise`, `hypothesis`, `label`",
        "map question and answer: --map user=COLUMN --map assistant=COLUMN",
    ),
    "code": (
        {"func_name": "f", "code": "def f(): ...", "docstring": "d", "language": "python"},
        "no dialect fits: the columns are `func_name`, `code`, `docstring`, `language`",
        "map question and answer: --map user=COLUMN --map assistant=COLUMN; or plain text: --map text=code",
    ),
    "code beside a text": (
        {"task_id": 1, "text": "Write a function.", "code": "def f(): ..."},
        "no dialect fits: the columns are `task_id`, `text`, `code`",
        "map question and answer: --map user=COLUMN --map assistant=COLUMN",
    ),
    "turns under keys of their own": (
        {"talk": {"0": {"role": "user", "content": "a"}, "1": {"role": "assistant", "content": "b"}}},
        "no dialect fits: the columns are `talk`",
        "the turns could be the values of `talk`: --map messages='values(talk)'",
    ),
    "lists of better and worse answers": (
        {"query": "q", "pos": ["a"], "neg": ["b"]},
        "no dialect fits: the columns are `query`, `pos`, `neg`",
        "`pos` could be the better and `neg` the worse of two answers: --map chosen='pos[0]' --map rejected='neg[0]'",
    ),
    "a pair of lists": (
        {"prompt": "q", "chosen": ["a"], "rejected": ["b"]},
        "no dialect fits: the columns are `prompt`, `chosen`, `rejected`",
        "answers are in lists: --map chosen='chosen[0]' --map rejected='rejected[0]' reads the first of each",
    ),
    "texts by language": (
        {"translation": {"en": "Hi", "fr": "Salut"}},
        "no dialect fits: the columns are `translation`",
        "`translation` holds the texts `en`, `fr`: map one to each part, --map prompt=translation.KEY "
        "--map completion=translation.KEY",
    ),
    "answers of which another column names the best": (
        {"prompt": "p", "responses": ["a b", "c d"], "preferred": 1},
        "no dialect fits: the columns are `prompt`, `responses`, `preferred`",
        "`responses` holds several answers, and `preferred` could say which is the best: "
        "--map chosen='{{ responses[INDEX] }}' --map rejected='{{ responses[INDEX] }}'",
    ),
    "answers in an object that prompts alone would lose": (
        {"question": "q", "answers": {"spans": ["a"]}},
        "no dialect fits: the columns are `question`, `answers`",
        "map the answer: --map user=question --map assistant=COLUMN",
    ),
    "a list of texts": (
        {"id": "0", "data": ["q", "a"]},
        "no dialect fits: the columns are `id`, `data`",
        "if the texts in `data` alternate: --map messages=data --roles user,assistant",
    ),
    "lists of texts": (
        {"talk": [["q", "a"], ["q", "a"]]},
        "no dialect fits: the columns are `talk`",
        "if the texts in `talk` alternate: --map messages='talk[][]' --roles user,assistant",
    ),
    "one text beside a role": (
        {"messages": [["user", "q"]]},
        "no dialect fits: the columns are `messages`",
        "if the texts in `messages` alternate: --map messages='messages[][]' --roles user,assistant",
    ),
    "one text under a role": (
        {"messages": [{"user": "q"}]},
        "no dialect fits: the columns are `messages`",
        "the rows could be in `messages`: --explode messages",
    ),
    "log of an API": (
        {"method": "POST", "status": 200, "request": {"messages": [TURN]}, "response": {"id": "1"}},
        "no dialect fits: the columns are `method`, `status`, `request`, `response`",
        "the turns could be in `request.messages`: --map messages=request.messages",
    ),
    "log of an API, answers too": (
        {"request": {"model": "m", "messages": [TURN]}, "response": {"choices": [{"message": ANSWER}]}},
        "no dialect fits: the columns are `request`, `response`",
        "the turns could be in `request.messages` and `response.choices[0].message`: "
        "--map prompt=request.messages --map completion='response.choices[0].message'",
    ),
    "records inside a column": (
        {"version": "1", "data": [{"question": "q", "answer": "a"}]},
        "no dialect fits: the columns are `version`, `data`",
        "the rows could be in `data`: --explode data",
    ),
    "one turn a row": (
        TURN,
        "no dialect fits: the columns are `role`, `content`",
        "each row is one turn: --group-by COLUMN makes one conversation of them",
    ),
    "one turn a row, numbered": (
        {"conversation_id": 1, "turn": 0, **TURN},
        "no dialect fits: the columns are `conversation_id`, `turn`, `role`, `content`",
        "each row is one turn: --group-by conversation_id --order-by turn makes one conversation of them",
    ),
    "one event a row": (
        {"type": "user", "message": TURN, "uuid": "1", "sessionId": "s"},
        "no dialect fits: the columns are `type`, `message`, `uuid`, `sessionId`",
        "each row is one turn: --group-by sessionId makes one conversation of them",
    ),
    "two conversations in a list": (
        {"question": "p", "answer": [[TURN, ANSWER], [TURN, {**ANSWER, "content": "no"}]]},
        "no dialect fits: the columns are `question`, `answer`",
        "`answer` holds two conversations: if the first is the better one, --map chosen='answer[0]' "
        "--map rejected='answer[1]'",
    ),
    "answers in a list": (
        {"question": "q", "answer": ["a", "b"]},
        "no dialect fits: the columns are `question`, `answer`",
        "`answer` is a list, not text; --explode answer --map user=question --map assistant=answer "
        "makes a row of each item",
    ),
    "rejects": (
        {"v": 1, "code": "row.empty", "detail": "d", "source": {"row": 0}, "raw": {"data": {}}},
        "no dialect fits: the columns are `v`, `code`, `detail`, `source`, `raw`",
        "they are rejects of an earlier run: --from-rejects converts the rows that they hold",
    ),
    "columns of rows": (
        {"question": ["q", "r"], "answer": ["a", "b"]},
        "no dialect fits: the columns are `question`, `answer`",
        "the values could be columns of rows: --field 'columns(.)'",
    ),
    "choices that no name explains": (
        {"question": "q", "first": "1", "second": "2", "right": 2},
        "no dialect fits: the columns are `question`, `first`, `second`, `right`",
        "map the answer: --map user=question --map assistant=COLUMN",
    ),
    "two answers without their prompt": (
        {"persona": "You are kind.", "chosen": "The sky is blue.", "rejected": "The sky is green."},
        "no dialect fits: the columns are `persona`, `chosen`, `rejected`",
        "map the prompt of both answers with --map prompt=COLUMN; "
        "or --dialect-option prompt=shared if both begin with it",
    ),
    "data for embeddings": (
        {"messages": [TURN], "positive_messages": [[TURN]], "negative_messages": [[TURN]], "conversations": [ANSWER]},
        "ambiguous messages: column `messages` or `conversations`",
        "choose with --map messages=messages or --map messages=conversations",
    ),
    "an answer alone": (
        {"response": "hi", "id": 1},
        "no dialect fits: the columns are `response`, `id`",
        "map the question: --map user=COLUMN --map assistant=response",
    ),
    "answers that prompts alone would lose": (
        {"prompt": "p", "response_a": "x", "response_b": "y", "winner": "model_b"},
        "no dialect fits: the columns are `prompt`, `response_a`, `response_b`, `winner`",
        "`response_a` and `response_b` are two answers, and `winner` could say which is the best: "
        """--where 'winner in ["model_a", "model_b"]' """
        """--map chosen='{{ response_a if winner in ["model_a"] else response_b }}' """
        """--map rejected='{{ response_b if winner in ["model_a"] else response_a }}'""",
    ),
    "answers of which some are in a list": (
        {"question": "p", "best_answer": "a", "incorrect_answers": ["b", "c"]},
        "no dialect fits: the columns are `question`, `best_answer`, `incorrect_answers`",
        "map the answer: --map user=question --map assistant=best_answer",
    ),
    "a prompt without a value beside it": (
        {"question": "q", "id": "a", "rationale": None},
        "no dialect fits: the columns are `question`, `id`, `rationale`",
        "map the answer: --map user=question --map assistant=COLUMN; "
        "or only prompts: --map prompt=question --dialect prompt-only",
    ),
    "a prompt with an answer in a list of one": (
        {"question": "q", "answers": ["a"]},
        "no dialect fits: the columns are `question`, `answers`",
        "map the answer: --map user=question --map assistant=COLUMN",
    ),
    "questions and answers side by side": (
        {"id": "1", "questions": ["q", "r"], "answers": ["a", "b"]},
        "no dialect fits: the columns are `id`, `questions`, `answers`",
        "`questions` and `answers` could be the turns of one conversation: --map user='questions[]' "
        "--map assistant='answers[]'",
    ),
    "instances of an instruction (Self-Instruct)": (
        {"instruction": "q", "instances": [{"input": "c", "output": "a"}]},
        "no dialect fits: the columns are `instruction`, `instances`",
        "the rows could be in `instances`: --explode instances",
    ),
    "texts inside inputs and outputs (LangSmith)": (
        {"inputs": {"question": "q"}, "outputs": {"answer": "a"}},
        "no dialect fits: the columns are `inputs`, `outputs`",
        "map question and answer: --map user=inputs.question --map assistant=outputs.answer",
    ),
    "answers in a list beside their ranking": (
        {"prompt": "p", "responses": ["a b", "c d"], "ranking": [2, 1]},
        "no dialect fits: the columns are `prompt`, `responses`, `ranking`",
        "`responses` holds several answers, and `ranking` could say which is the best: "
        "--map chosen='{{ responses[INDEX] }}' --map rejected='{{ responses[INDEX] }}'",
    ),
    "tests beside a question (APPS)": (
        {"question": "q", "solutions": '["a"]', "input_output": '{"inputs": ["1"], "outputs": ["2"]}'},
        "no dialect fits: the columns are `question`, `solutions`, `input_output`",
        "map the answer: --map user=question --map assistant=COLUMN",
    ),
    "turns inside other objects (Grok)": (
        {
            "responses": [
                {"response": {"sender": "human", "message": "q"}},
                {"response": {"sender": "ai", "message": "a"}},
            ]
        },
        "no dialect fits: the columns are `responses`",
        "the turns could be in `responses[].response`: --map messages='responses[].response'",
    ),
    "pairs of a user and a bot": (
        {"persona": "p", "talks": [{"user": "q", "bot": "a"}]},
        "no dialect fits: the columns are `persona`, `talks`",
        "the turns could be in `talks`: --map messages=talks",
    ),
    "turns as text of text": (
        {"messages": json.dumps(json.dumps([TURN]))},
        "no dialect fits: the columns are `messages`",
        "map a column of turns with --map messages=COLUMN",
    ),
    "objects as text": (
        {"id": "d", "data": json.dumps({"question": "q", "answer": "a"})},
        "no dialect fits: the columns are `id`, `data`",
        "map a column of turns with --map messages=COLUMN",
    ),
    "a prompt and something that could answer it": (
        {"prompt": "def f():", "canonical_solution": "return 1", "entry_point": "f"},
        "no dialect fits: the columns are `prompt`, `canonical_solution`, `entry_point`",
        "map the answer: --map user=prompt --map assistant=canonical_solution",
    ),
    "two answers": (
        {"prompt": "p", "response": "a", "output": "b"},
        "ambiguous completion: column `output` or `response`",
        "choose with --map completion=output or --map completion=response",
    ),
    "two questions": (
        {"question": "p", "instruction": "q", "output": "b"},
        "ambiguous prompt: column `instruction` or `question`",
        "choose with --map prompt=instruction or --map prompt=question",
    ),
    "two conversations": (
        {"messages": [TURN], "conversations": [{"from": "human", "value": "b"}]},
        "ambiguous messages: column `messages` or `conversations`",
        "choose with --map messages=messages or --map messages=conversations",
    ),
    "an answer that is a number": (
        {"question": "q", "answer": 7},
        "no dialect fits: the columns are `question`, `answer`",
        "`answer` is not text; convert it with --map user=question --map assistant='{{ answer }}'",
    ),
    "turns with keys in capitals": (
        {"messages": [{"Role": "user", "Content": "q"}, {"Role": "assistant", "Content": "a"}]},
        "no dialect fits: the columns are `messages`",
        "the turns could be in `messages`: --map messages=messages --map messages.role=Role "
        "--map messages.content=Content",
    ),
    "several worse answers": (
        {"prompt": "q", "chosen": "a", "rejected": ["b", "c"]},
        "no dialect fits: the columns are `prompt`, `chosen`, `rejected`",
        "answers are in lists: --map rejected='rejected[0]' reads the first of each",
    ),
    "an answer as turns and one as text": (
        {"prompt": "q", "chosen": [{"role": "assistant", "content": "a"}], "rejected": "b"},
        "no dialect fits: the columns are `prompt`, `chosen`, `rejected`",
        "one of the answers is text, and the other turns: --map chosen='chosen[-1].content' reads the text of the "
        "last one",
    ),
    "turns with keys of other names": (
        {"dialog": [{"who": "a", "said": "b"}]},
        "no dialect fits: the columns are `dialog`",
        "`dialog` holds objects with the keys `who`, `said`: name them with --map messages=dialog "
        "--map messages.role=KEY --map messages.content=KEY, or for pairs --map messages.user=KEY "
        "--map messages.assistant=KEY",
    ),
    "turns with a text and no role": (
        {"turns": [{"id": 1, "content": "q"}, {"id": 2, "content": "a"}]},
        "no dialect fits: the columns are `turns`",
        "if the turns in `turns` alternate: --map messages=turns --roles user,assistant; if all ask, --roles user",
    ),
    "two answers and no verdict": (
        {"instruction": "q", "response_a": "a", "response_b": "b"},
        "no dialect fits: the columns are `instruction`, `response_a`, `response_b`",
        "`response_a` and `response_b` are two answers: if the first is always the better one, "
        "--map chosen=response_a --map rejected=response_b",
    ),
    "a better and a worse turn": (
        {"prompt": "q", "positive": ANSWER, "negative": ANSWER},
        "no dialect fits: the columns are `prompt`, `positive`, `negative`",
        "`positive` could be the better and `negative` the worse of two answers: "
        "--map chosen=positive --map rejected=negative",
    ),
    "two answers that are lists of turns, and no verdict": (
        {"query": "q", "response_a": [ANSWER], "response_b": [{**ANSWER, "content": "hey"}]},
        "ambiguous messages: column `response_a` or `response_b`",
        "`response_a` and `response_b` are two answers: if the first is always the better one, "
        "--map chosen=response_a --map rejected=response_b",
    ),
    "a lost list of turns, and the one that won": (
        {"query": "q", "win": [ANSWER], "lose": [{**ANSWER, "content": "hey"}]},
        "ambiguous messages: column `win` or `lose`",
        "`win` could be the better and `lose` the worse of two answers: --map chosen=win --map rejected=lose",
    ),
    "two answers inside an object": (
        {"id": 1, "record": {"prompt": "q", "chosen": [ANSWER], "rejected": [ANSWER]}},
        "no dialect fits: the columns are `id`, `record`",
        "`record.chosen` could be the better and `record.rejected` the worse of two answers: "
        "--map chosen=record.chosen --map rejected=record.rejected",
    ),
    "a question, and answers as an API returns them": (
        {"input": "q", "completions": [{"message": ANSWER}, {"message": {**ANSWER, "content": "hey"}}]},
        "no dialect fits: the columns are `input`, `completions`",
        "`completions` holds the answers: --explode completions --map prompt=input --map completion=message "
        "makes a row of each",
    ),
    "rendered text": (
        {"plain_text": "[Human]: q<eoh> [MOSS]: a<eoa> ", "num_turns": 1},
        "no dialect fits: the columns are `plain_text`, `num_turns`",
        "`plain_text` looks like rendered text: --map text=plain_text reads its turns",
    ),
    "a turn with its replies": (
        {**TURN, "children": [{**ANSWER, "children": []}, {**ANSWER, "children": []}]},
        "no dialect fits: the columns are `role`, `content`, `children`",
        "each row is a turn with its replies in `children`: write each path through them as a list of turns",
    ),
    "log of Gemini's API": (
        {
            "request": {"contents": [{"role": "user", "parts": [{"text": "q"}]}]},
            "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}}]},
        },
        "no dialect fits: the columns are `request`, `response`",
        "the turns could be in `request.contents` and `response.candidates[0].content`: "
        "--map prompt=request.contents --map completion='response.candidates[0].content'",
    ),
    "turns by their ids, and in a list": (
        {"chat": {"history": {"a": {"id": "a", **TURN}, "b": {"id": "b", **ANSWER}}, "messages": [TURN, ANSWER]}},
        "no dialect fits: the columns are `chat`",
        "the turns could be in `chat.messages`: --map messages=chat.messages",
    ),
    "a question and an answer inside, beside ratings": (
        {"id": "7", "fields": {"prompt": "q", "response": "a"}, "responses": [{"values": {"quality": 5}}]},
        "no dialect fits: the columns are `id`, `fields`, `responses`",
        "map question and answer: --map user=fields.prompt --map assistant=fields.response",
    ),
    "a prompt that a template has rendered, and its answer": (
        {"prompt": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "outputs": [{"text": "a"}]},
        "no dialect fits: the columns are `prompt`, `outputs`",
        "map the answer: --map user=prompt --map assistant=COLUMN",
    ),
    "an answer without a value": (
        {"question": "q", "answer": None},
        "no dialect fits: the columns are `question`, `answer`",
        "no sampled row has a value in `answer`: map another column with --map user=question --map assistant=COLUMN; "
        "or only prompts: --map prompt=question --dialect prompt-only",
    ),
    "numbers": (
        {"x": 1, "y": 2.5},
        "no dialect fits: the columns are `x`, `y`",
        "map a column of turns with --map messages=COLUMN, or texts with --map user=COLUMN --map assistant=COLUMN",
    ),
    "turns of a prompt, and chosen ones without rejected ones": (
        {"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}]},
        "no dialect fits: the columns are `prompt`, `chosen`",
        "the turns could be in `prompt` and `chosen`: --map prompt=prompt --map completion=chosen",
    ),
    "an answer after turns that end with one": (
        {"history": [TURN, ANSWER], "user_message": "q", "response": "a"},
        "no dialect fits: the columns are `history`, `user_message`, `response`",
        "`history` could hold the turns before a question: --map history=history --map user=COLUMN",
    ),
    "letters": (
        {"Q": "q is a long question", "A": "a"},
        "no dialect fits: the columns are `Q`, `A`",
        "map question and answer: --map user=Q --map assistant=A",
    ),
    "turns beside a longer text": (
        {"meta": {}, "motto": "Be brief.", "chat": {"turn_1": {"Ann": "Hi there.", "Bob": "Hello."}}},
        "no dialect fits: the columns are `meta`, `motto`, `chat`",
        "map a column of turns with --map messages=COLUMN",
    ),
    "roles under another key": (
        {"talk": [{"who": "human", "said": "q"}, {"who": "bot", "said": "a"}]},
        "no dialect fits: the columns are `talk`",
        "the turns could be in `talk`: --map messages=talk --map messages.role=who --map messages.content=said",
    ),
    "roles under a name, beside content": (
        {"turns": [{"name": "human", "content": "q"}, {"name": "gpt", "content": "a"}]},
        "no dialect fits: the columns are `turns`",
        "the turns could be in `turns`: --map messages=turns --map messages.role=name --map messages.content=content",
    ),
    "turns that say who speaks": (
        {"talk": [{"message": "a", "is_human": False}, {"message": "q", "is_human": True}]},
        "no dialect fits: the columns are `talk`",
        "the turns could be in `talk`: --map messages=talk --map messages.role=is_human "
        "--map messages.content=message --role true=user --role false=assistant",
    ),
    "turns that say whether a bot speaks": (
        {"talk": [{"line": "q", "is_bot": False}, {"line": "a", "is_bot": True}]},
        "no dialect fits: the columns are `talk`",
        "the turns could be in `talk`: --map messages=talk --map messages.role=is_bot "
        "--map messages.content=line --role true=assistant --role false=user",
    ),
    "names with blanks": (
        {"My Question": "q", "The Reply": "r"},
        "no dialect fits: the columns are `My Question`, `The Reply`",
        "map question and answer: --map user='My Question' --map assistant='The Reply'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_message_and_hint(name: str) -> None:
    row, message, hint = REFUSED[name]
    with pytest.raises(NoDialect) as caught:
        convert([row] if "columns(.)" in hint else [row, row])
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (message, hint, 2)


@pytest.mark.parametrize("name", REFUSED)
def test_the_flags_of_the_hint_work(name: str) -> None:
    """The flags of a hint work, if it names all columns."""
    row, _, hint = REFUSED[name]
    first = re.split(r"; or | or --", hint)[0]
    fields = {part: path.strip("'") for part, path in re.findall(r"--map '?([\w.]+)=('[^']*'|[\w.\[\]]+)", first)}
    is_open = any(name in path for name in ("COLUMN", "KEY") for path in fields.values())
    if is_open or "{{" in hint or "--explode" in hint or "[]'" in hint or not fields:
        pytest.skip("the hint leaves a name open")
    in_turn = tuple(role for roles in re.findall(r"--roles ([\w,]+)", first)[:1] for role in roles.split(","))
    roles = dict(re.findall(r"--role (\w+)=(\w+)", first))
    made, _ = convert([row], Columns(fields=fields, roles=roles, turn_roles=in_turn))
    assert len(made) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"talk": [["a", "b"], ["c", "d"]]},
        {"history": [["a", "b"], ["c", "d"]], "session": "s1"},
        {"chat": '[["a", "b"], ["c", "d"]]'},
    ],
)
def test_lists_of_two_texts_are_read_as_the_hint_says(row: dict[str, Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [row])
    refused = run_here("convert", tmp_path / "in.jsonl").stderr.decode()
    flags = refused.rstrip().partition("alternate: ")[2]
    done = run_here("convert", tmp_path / "in.jsonl", *shlex.split(flags), "-q")
    turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, "abcd", strict=True)]
    assert json.loads(done.stdout) == {"messages": turns}


@pytest.mark.parametrize("name", ["messages", "conversations", "my chat"])
def test_nulls_in_place_of_turns_are_left_out_as_the_hint_says(name: str, tmp_path: Path) -> None:
    text = {**TURN, "content": "</b> é '1.0'"}
    write_rows(tmp_path / "in.jsonl", [{name: [None, text, ANSWER]}])
    refused = run_here("convert", "in.jsonl", cwd=tmp_path).stderr.decode()
    start, _, flags = refused.rstrip().partition(f"hint: `{name}` has null in place of a turn, which this leaves out: ")
    assert start == f"error: in.jsonl: no dialect fits: the columns are `{name}`\n"
    done = run_here("convert", "in.jsonl", *shlex.split(flags), "-q", cwd=tmp_path)
    assert json.loads(done.stdout) == {"messages": [text, ANSWER]}


def test_turns_without_roles_inside_a_row() -> None:
    with pytest.raises(NoDialect) as caught:
        convert([{"data": {"talk": [{"content": "x"}]}, "n": 5}], Columns(turn_roles=("user", "assistant")))
    assert caught.value.hint == "the turns could be in `data.talk`: --map messages=data.talk"


def test_conversations_below_a_name_with_a_dot() -> None:
    row = {"a.b": {"talks": [{"turns": [{"role": "user", "content": "x"}]}] * 2}, "n": 5}
    with pytest.raises(NoDialect, match="no dialect fits: the columns are `a.b`, `n`"):
        convert([row, row])


@pytest.mark.parametrize("roles", [[0, 1], [True, False], [["user"], ["bot"]]])
def test_turns_inside_a_row_whose_roles_are_not_text(roles: list[Any]) -> None:
    turns = [{"speaker": role, "utterance": "x"} for role in roles]
    for talk in (turns, {"speaker": roles, "utterance": ["x", "x"]}):
        with pytest.raises(NoDialect) as caught:
            convert([{"data": {"talk": talk}, "n": 5}])
        assert caught.value.hint == "the turns could be in `data.talk`: --map messages=data.talk"


def test_text_in_some_rows_and_lists_in_others() -> None:
    with pytest.raises(NoDialect) as caught:
        convert([{"data": [["x"]]}, {"data": "some words"}])
    assert caught.value.hint == "map a column of turns with --map messages=COLUMN"


def test_rows_of_a_named_dialect_with_a_part_in_different_columns() -> None:
    rows = [{"question": "q", "answer": "a"}, {"prompt": "r", "completion": "b"}]
    with pytest.raises(NoDialect) as caught:
        convert(rows, dialect="prompt-completion")
    assert caught.value.message == "ambiguous prompt: column `question` or `prompt`"
    assert caught.value.hint == "--dialect mixed reads each row by its own columns"
    assert len(convert(rows, dialect="mixed")[0]) == 2


def test_rows_inside_one_document() -> None:
    with pytest.raises(NoDialect) as caught:
        convert([{"version": "1", "data": [{"question": "q", "answer": "a"}]}])
    assert caught.value.hint == "the rows could be in `data`: --field data"


QA = [{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}]
SQUAD = {"context": "c", "qas": [{"question": "q", "answers": [{"text": "a"}]}]}
DOCUMENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "rows by id": ({"c1": QA[0], "c2": QA[1]}, "the values could be rows: --field 'values(.)'", "qarb"),
    "conversations by id": (
        {"c1": {"messages": [{**TURN, "content": "q"}]}, "c2": {"messages": [{**TURN, "content": "r"}]}},
        "the values could be rows: --field 'values(.)'",
        "qr",
    ),
    "splits": (
        {"train": [{"q": "q", "a": "a"}], "test": [{"q": "r", "a": "b"}]},
        "the rows could be in `train` or `test`: --field train or --field test",
        "",
    ),
    "SQuAD": (
        {"version": 1, "data": [{"title": "t", "paragraphs": [SQUAD]}]},
        "the rows could be in `data[].paragraphs[]`: --field 'data[].paragraphs[]'",
        "c\n\nqa",
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_one_line_has_all_rows_with_the_field_of_the_hint(name: str, tmp_path: Path) -> None:
    document, hint, texts = DOCUMENTS[name]
    write_rows(tmp_path / "in.json", [document])
    refused = run_here("convert", tmp_path / "in.json").stderr.decode()
    assert refused.splitlines()[1:] == [f"hint: {hint}"]
    more = ["--explode", "qas"] if name == "SQuAD" else []
    done = run_here(
        "convert", tmp_path / "in.json", *shlex.split(hint.partition(": ")[2]), *more, "-q", "--to", "messages"
    )
    turns = [turn["content"] for line in done.stdout.splitlines() for turn in json.loads(line)["messages"]]
    assert "".join(turns) == texts


def test_conversations_by_id_are_read_as_the_hint_says(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "in.json", [{"a": [{**TURN, "content": "q"}, ANSWER], "b": [{**TURN, "content": "r"}, ANSWER]}]
    )
    refused = run_here("convert", tmp_path / "in.json").stderr.decode()
    flags = refused.partition("if each value is a conversation, ")[2].partition("; else choose with")[0]
    done = run_here("convert", tmp_path / "in.json", *shlex.split(flags), "-q")
    assert [json.loads(row)["messages"][0]["content"] for row in done.stdout.splitlines()] == ["q", "r"]


def test_one_row_with_two_answers_beside_a_list_of_texts_has_no_conversations_by_id() -> None:
    with pytest.raises(NoDialect) as caught:
        convert([{"tags": ["x"], "prompt": "p", "response": "a", "output": "b"}])
    assert caught.value.hint == "choose with --map completion=output or --map completion=response"


def test_what_a_field_leaves_behind_in_outer_lists_is_noted(tmp_path: Path) -> None:
    paragraph = {"context": "c", "qas": [{"question": "q", "answer": "a"}]}
    document = {"version": 1, "data": [{"title": "t", "paragraphs": [paragraph]}]}
    note = (
        "note: `--field data[].paragraphs[].qas[]` leaves behind `version`, `data[].title`, "
        "`data[].paragraphs[].context`: --field 'data[].paragraphs[]' with --explode keeps more"
    )
    for indent in (None, 1):
        (tmp_path / "in.json").write_text(json.dumps(document, indent=indent))
        done = run_here("convert", tmp_path / "in.json", "--field", "data[].paragraphs[].qas[]")
        assert done.stderr.decode().splitlines()[0] == note
        assert b"note" not in run_here("convert", tmp_path / "in.json", "--field", "data", "--map", "text=title").stderr


@pytest.mark.parametrize("in_turns", [False, True])
@pytest.mark.parametrize(
    ("choices", "pairs"),
    [
        ([{"winner": "a"}, {"winner": "b"}, {"winner": "tie"}], ["xy", "yx"]),
        ([{"the best": 2}, {"the best": 0}, {"the best": None}, {"the best": 1}], ["yx", "xy"]),
        ([{"winner": "Model A"}, {"winner": "tie"}, {"winner": "both are bad"}], ["xy"]),
        ([{"preference": "a"}, {"preference": None}, {"preference": "b"}], ["xy", "yx"]),
        ([{"score_a": "10", "score_b": "9"}, {"score_a": "", "score_b": "1"}], None),
        (
            [{"score_a": "10", "score_b": "9"}, {"score_a": "9", "score_b": "10"}, {"score_a": "9", "score_b": "9.0"}],
            ["xy", "yx"],
        ),
        (
            [{"winner_a": 1, "winner_b": 0}, {"winner_a": 0, "winner_b": 1}, {"winner_a": 0, "winner_b": 0}],
            ["xy", "yx"],
        ),
    ],
)
def test_the_hint_for_a_winner_leaves_out_ties(
    choices: list[dict[str, Any]], pairs: list[str] | None, in_turns: bool, tmp_path: Path
) -> None:
    first, second = ([{**ANSWER, "content": text}] if in_turns else text for text in "xy")
    ending = ("_1", "_2") if "the best" in choices[0] else (" a", " b")
    answers = {f"response{ending[0]}": first, f"response{ending[1]}": second}
    write_rows(tmp_path / "in.jsonl", [{"prompt": "p", **answers, **choice} for choice in choices])
    refused = run_here("convert", tmp_path / "in.jsonl").stderr.decode()
    done = run_here("convert", tmp_path / "in.jsonl", *shlex.split(refused.rstrip().partition("best: ")[2]), "-q")
    if pairs is None:  # a cell is empty
        assert (done.returncode, done.stdout) == (4, b"") and b"row 1" in done.stderr
        return
    rows = from_lines(done.stdout)
    assert [row["chosen"][0]["content"] + row["rejected"][0]["content"] for row in rows] == pairs


@pytest.mark.parametrize("choices", [(1, 2, 5), (-1, 0, 1), (0, 1), (1, 0)], ids=str)
def test_numbers_that_may_be_a_scale_name_no_answer(choices: tuple[int, ...], tmp_path: Path) -> None:
    rows = [{"prompt": "p", "answer_1": "x", "answer_2": "y", "preference": choice} for choice in choices]
    write_rows(tmp_path / "in.jsonl", rows)
    refused = run_here("convert", tmp_path / "in.jsonl").stderr.decode()
    assert "--where 'preference in [VALUE_OF_FIRST, VALUE_OF_SECOND]' --map chosen=" in refused


@pytest.mark.parametrize("prompt", [{}, {"prompt": [TURN]}], ids=["whole", "continued"])
def test_lists_of_turns_of_a_better_and_a_worse_answer(prompt: dict[str, Any], tmp_path: Path) -> None:
    before = [] if prompt else [TURN]
    sides = {name: [*before, {"role": "assistant", "content": name}] for name in ("worse", "better")}
    write_rows(tmp_path / "in.jsonl", [{**prompt, **sides}])
    flags = ("--map", "chosen=better", "--map", "rejected=worse")
    refused = run_here("convert", tmp_path / "in.jsonl").stderr.decode()
    assert refused.rstrip().endswith(f"the worse of two answers: {' '.join(flags)}")
    (row,) = map(json.loads, run_here("convert", tmp_path / "in.jsonl", *flags, "-q").stdout.splitlines())
    assert [row[side][-1]["content"] for side in ("chosen", "rejected")] == ["better", "worse"]


@pytest.mark.parametrize("sender", ["Sender", "who"])
def test_rows_of_a_chat_log(sender: str, tmp_path: Path) -> None:
    said = [("T1", "Anna", "hi"), ("T1", "Support", "yes?"), ("T2", "Anna", "bye"), ("T2", "Support", "so long")]
    write_rows(tmp_path / "in.jsonl", [dict(zip(("Ticket", sender, "Message"), row, strict=True)) for row in said])
    refused = run_here("convert", tmp_path / "in.jsonl").stderr.decode().rstrip().partition("hint: ")[2]
    flags = f"--group-by Ticket --map messages.role={sender} --map messages.content=Message"
    roles = "--role Anna=ROLE --role Support=ROLE"
    assert refused == (
        f"each row is one turn: {flags} {roles} makes one conversation of them; ROLE is user, assistant, system or tool"
    )
    done = run_here("convert", tmp_path / "in.jsonl", *flags.split(), "--me", "Support", "-q")
    rows = [
        [turn["role"] + turn["content"] for turn in json.loads(row)["messages"]] for row in done.stdout.splitlines()
    ]
    assert rows == [["userhi", "assistantyes?"], ["userbye", "assistantso long"]]


def test_an_unknown_kept_column() -> None:
    with pytest.raises(UnknownName) as caught:
        convert([{"messages": [TURN], "topic": "t"}], Columns(keep=("topci",)))
    assert (caught.value.message, caught.value.hint) == ("unknown column `topci`", "did you mean `topic`?")


def test_no_rows() -> None:
    with pytest.raises(NoDialect) as caught:
        convert([])
    assert caught.value.message == "no rows to detect a dialect from"


def test_an_unknown_dialect() -> None:
    with pytest.raises(UnknownName) as caught:
        convert([{"messages": [TURN]}], dialect="sharegtp")
    assert (caught.value.message, caught.value.hint) == ("unknown dialect `sharegtp`", "did you mean `sharegpt`?")


def test_a_dialect_that_does_not_fit() -> None:
    with pytest.raises(NoDialect) as caught:
        convert([{"messages": [TURN]}], dialect="alpaca")
    assert caught.value.message == "the dialect `alpaca` does not fit: the columns are `messages`"


@pytest.mark.parametrize("name", ["anthropic", "responses"])
def test_a_dialect_of_blocks_reads_turns_without_any(name: str) -> None:
    """Later rows may have some, and their error says `--dialect NAME`."""
    made, found = convert([{"messages": [TURN, ANSWER]}], dialect=name)
    assert (made, found.dialect) == ([{"messages": [TURN, ANSWER]}], name)


def test_a_claude_export_without_thoughts_is_read() -> None:
    blocks = [{"sender": "human", "content": [{"type": "text", "text": "hi"}]}]
    made, _ = convert([{"chat_messages": blocks}], Columns(fields={"messages": "chat_messages"}), dialect="anthropic")
    assert made == [{"messages": [TURN]}]


def test_an_invalid_option() -> None:
    rows = [{"question": "q", "choices": ["a", "b"], "answer": 0}]
    with pytest.raises(UsageError) as caught:
        convert(rows, Columns(options={"mc_answer": "number"}))
    assert caught.value.message == "the dialect option `mc_answer` must be letter, text or both, not `number`"
    assert caught.value.hint == "--dialect-option mc_answer=letter"


@pytest.mark.parametrize("name", ["hermes", "toolace", "alpaca"])
def test_a_dialect_that_does_not_fit_where_another_does(name: str) -> None:
    row = {"conversations": [{"from": "human", "value": "Hi!"}, {"from": "gpt", "value": "Hello."}]}
    with pytest.raises(NoDialect) as caught:
        convert([row], dialect=name)
    assert caught.value.message == f"the dialect `{name}` does not fit: the columns are `conversations`"
    assert caught.value.hint == "leave out --dialect: `sharegpt` fits"


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ((), "map question and answer: --map user=ask --map assistant=COLUMN"),
        (("--map", "user=ask", "--map", "assistant=n"),
         "`n` is not text; convert it with --map user=ask --map assistant='{{ n }}'"),
        (("--map", "assistant=rep"), "map the question: --map user=ask --map assistant=rep"),
    ],
)  # fmt: skip
def test_hints_name_the_columns_of_the_source_also_where_some_are_mapped(
    flags: tuple[str, ...], hint: str, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text('{"ask": "q", "rep": "r", "n": 3}\n')
    run = run_here("convert", "in.jsonl", *flags, cwd=tmp_path)
    said = f"error: in.jsonl: no dialect fits: the columns are `ask`, `rep`, `n`\nhint: {hint}\n"
    assert (run.returncode, run.stderr.decode()) == (2, said)
    if "COLUMN" not in hint:
        typed = shlex.split(hint[hint.index("--map") :])
        assert run_here("convert", "in.jsonl", *typed, "-q", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("bad", "good", "chosen"),
    [
        ('{"messages":null}', json.dumps({"messages": [TURN, ANSWER]}), "--dialect messages"),
        ('{"messages":null}', json.dumps({"messages": [TURN, ANSWER]}), "--map messages=messages"),
        ('{"ask":"q","rep":null}', '{"ask": "hi", "rep": "hello"}', "--map user=ask --map assistant=rep"),
    ],
)
def test_a_choice_of_the_user_holds_where_it_fits_few_rows(bad: str, good: str, chosen: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(f"{bad}\n" * 3 + f"{good}\n")
    skip = ("--on-error", "skip", "--max-bad", "80%")
    run = run_here("convert", "in.jsonl", *chosen.split(), *skip, "-o", "out.jsonl", cwd=tmp_path)
    assert run.stderr.decode().splitlines()[1] == "rejected: 3 of 4 rows (col.null 3), in `out.rejects.jsonl`"
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"messages": [TURN, ANSWER]}
    again = run_here("convert", "out.rejects.jsonl", "--from-rejects", *chosen.split(), cwd=tmp_path)
    assert again.returncode == 2  # none has what the dialect reads
    (tmp_path / "in.jsonl").write_text((tmp_path / "out.rejects.jsonl").read_text().replace(*fixed(bad, good), 1))
    again = run_here("convert", "in.jsonl", "--from-rejects", *chosen.split(), *skip, "-q", cwd=tmp_path)
    assert json.loads(again.stdout) == {"messages": [TURN, ANSWER]}


def fixed(bad: str, good: str) -> tuple[str, str]:
    """Return rows as they stand inside the text of another row of JSON."""
    return json.dumps(bad)[1:-1], json.dumps(good)[1:-1]


def test_a_dialect_that_fits_few_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"messages": null}\n' * 3 + json.dumps({"messages": [TURN, ANSWER]}) + "\n")
    assert run_here("convert", "in.jsonl", cwd=tmp_path).stderr.decode() == (
        "error: in.jsonl: no dialect fits more than 1 of the 4 sampled rows: the columns are `messages`\n"
        "hint: --dialect messages reads those, and --on-error skip --max-bad 75% leaves out the others\n"
    )
    flags = ["--dialect", "messages", "--on-error", "skip", "--max-bad", "75%"]
    done = run_here("convert", "in.jsonl", *flags, "-q", cwd=tmp_path)
    assert json.loads(done.stdout) == {"messages": [TURN, ANSWER]}
