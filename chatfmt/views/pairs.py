"""Views of preference data other than prompt, chosen and rejected: the forms in which trainers want pairs of answers.

The forms are those of TRL with an implicit prompt, torchtune and open-instruct (whole conversations), LLaMA-Factory
(`messages`, and `chosen` and `rejected` as one message each), ms-swift (`messages` with `rejected_response`, `messages`
with `label`), NeMo RL (`context` and `completions`) and OpenAI's fine-tuning API (`input`, `preferred_output`,
`non_preferred_output`).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..errors import RowError, map_rows
from ..json_columns import TEXT, decode_conversations, json_array, json_values
from ..schema import Conversation, Turn
from .batch import Fields, RenderableBatch, join, refuse_inputs, template_inputs, whole_conversations
from .split import alternate, split_pairs


def conversations(batch: RenderableBatch) -> Fields:
    """`chosen` and `rejected`: the whole conversation with each answer."""
    before, chosen, rejected = split_pairs(batch)
    wholes = {"chosen": join(before, chosen), "rejected": join(before, rejected)}
    if batch.renderer is None:
        return {**wholes, **template_inputs(batch)}
    return {name: batch.render(turns).text for name, turns in wholes.items()}


def single_messages(batch: RenderableBatch) -> Fields:
    """`messages`, the prompt, with `chosen` and `rejected`, one message each.

    Raises RowError `view.answer` for an answer that is not one message of text after a user turn.
    """
    before, chosen, rejected = split_pairs(batch)
    map_rows(_check_question, decode_conversations(before))
    answers = {}
    for name, turns in {"chosen": single_turns(chosen), "rejected": single_turns(rejected)}.items():
        map_rows(_only_text, turns)
        answers[name] = json_array(turns)
    return {"messages": before, **answers, **template_inputs(batch)}


def rejected_response(batch: RenderableBatch) -> Fields:
    """`messages`, the conversation with the better answer, and the text of the worse one as `rejected_response`.

    Raises RowError `view.answer` for a better answer of several messages, for a worse one that is not one message of
    text, and for answers that do not follow a user turn: ms-swift replaces all turns after the last one.
    """
    before, chosen, rejected = split_pairs(batch)
    map_rows(_check_question, decode_conversations(before))
    single_turns(chosen)
    texts = map_rows(_only_text, single_turns(rejected))
    return {"messages": join(before, chosen), "rejected_response": pa.array(texts, TEXT), **template_inputs(batch)}


def unpaired_messages(batch: RenderableBatch) -> Fields:
    """`messages`, a conversation, and `label`, whether its answer is good; a pair becomes two rows."""
    if batch.column("label") is not None or batch.column("chosen") is None:
        return {"messages": whole_conversations(batch), "label": batch.required("label"), **template_inputs(batch)}
    before, chosen, rejected = split_pairs(batch)
    twice = pa.array(np.repeat(np.arange(len(batch)), 2))
    shared = {name: column.take(twice) for name, column in template_inputs(batch).items()}
    label = pa.array(np.tile([True, False], len(batch)))
    return {"messages": alternate(join(before, chosen), join(before, rejected)), "label": label, **shared}


def openai(batch: RenderableBatch) -> Fields:
    """`input` with `messages` and `tools`, and `preferred_output` and `non_preferred_output`, lists of one message.

    Raises RowError `view.answer` for an answer of several messages: the API compares the last ones alone.
    """
    refuse_inputs(batch, "openai-preference", "tools")
    before, chosen, rejected = split_pairs(batch)
    single_turns(chosen), single_turns(rejected)
    column = batch.column("tools")
    tools = json_values(column) if column is not None else [None] * len(batch)
    inputs = [
        {"messages": turns, **({"tools": specs} if specs else {})}
        for turns, specs in zip(decode_conversations(before), tools, strict=True)
    ]
    return {"input": json_array(inputs), "preferred_output": chosen, "non_preferred_output": rejected}


def ranked(batch: RenderableBatch) -> Fields:
    """`context`, and `completions`: the better one with rank 0 and the worse with rank 1, each a list of messages."""
    before, chosen, rejected = split_pairs(batch)
    pairs = zip(decode_conversations(chosen), decode_conversations(rejected), strict=True)
    completions = json_array([
        [{"rank": rank, "completion": turns} for rank, turns in enumerate(pair)] for pair in pairs
    ])  # fmt: skip
    return {"context": before, "completions": completions, **template_inputs(batch)}


def single_turns(answers: pa.ListArray) -> list[Turn]:
    """Return the message of each answer; raises RowError `view.answer` for an answer of several."""
    return map_rows(_only_turn, decode_conversations(answers))


def _only_turn(turns: Conversation | None) -> Turn:
    if turns is None or len(turns) != 1:
        raise _answer_error("is not one message")
    return turns[0]


def _check_question(turns: Conversation | None) -> None:
    if not turns or turns[-1].get("role") != "user":
        raise _answer_error("does not follow a user turn")


def _only_text(turn: Turn) -> str:
    if set(turn) - {"role"} != {"content"} or not isinstance(turn["content"], str):
        raise _answer_error("is more than text")
    return turn["content"]


def _answer_error(problem: str) -> RowError:
    return RowError(
        f"an answer of the pair {problem}",
        code="view.answer",
        hint="--to preference-conversations writes whole conversations, --on-error skip drops such rows",
    )
