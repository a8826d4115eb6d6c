"""Views for reinforcement learning with verifiable rewards: a prompt, and the ground truth of its answer.

The forms are those of open-instruct (`messages`, `ground_truth`, `dataset`), verl (`prompt`, `data_source`,
`reward_model`) and NeMo RL (`input`, `output`). The ground truth is the first column of KEPT_TRUTHS that is kept; if
`--keep` names none, the first of TRUTHS that the conversation does not use, and else the answer of the conversation.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from ..errors import RowError, UsageError, map_rows, refuse_rows
from ..json_columns import ABSENT, TEXT, decode_conversations, decode_values, dumps, json_array, to_plain
from ..schema import CONVERSATIONS, KEPT, KEPT_TRUTHS
from ..trainers import listed
from .batch import Fields, RenderableBatch, refuse_inputs, template_inputs
from .split import prompt, prompt_and_completion


def messages(batch: RenderableBatch) -> Fields:
    """`messages`, the prompt, with `ground_truth` as text and `dataset`, which names the verifier in open-instruct."""
    truths = pa.array(map(as_text, ground_truths(batch)), TEXT)
    verifier = named(batch, "dataset")
    return {"messages": turns(batch), "ground_truth": truths, "dataset": verifier, **template_inputs(batch)}


def prompts(batch: RenderableBatch) -> Fields:
    """`prompt` with `data_source`, by which verl finds the reward, and `reward_model`, which has the ground truth."""
    rewards = json_array([{"style": "rule", "ground_truth": truth} for truth in ground_truths(batch)])
    source = named(batch, "data_source")
    return {"prompt": turns(batch), "data_source": source, "reward_model": rewards, **template_inputs(batch)}


def texts(batch: RenderableBatch) -> Fields:
    """`input` and `output`, the text of a question and its ground truth.

    Raises RowError `view.instruction` for a prompt that is more than one question.
    """
    refuse_inputs(batch, "rlvr-text")
    asked = map_rows(only_question, decode_conversations(turns(batch)))
    truths = list(map(as_text, ground_truths(batch)))
    return {"input": pa.array(asked, TEXT), "output": pa.array(truths, TEXT)}


def turns(batch: RenderableBatch) -> pa.ListArray:
    """Return the prompts, which the trainers render themselves, also with a template."""
    return prompt(replace(batch, renderer=None))["prompt"]


def ground_truths(batch: RenderableBatch) -> list[Any]:
    """Return the ground truth of each row; raises RowError `view.truth` for a row without one.

    Raises UsageError for rows without such a column whose answers are missing, or labelled as good or bad.
    """
    labelled = batch.column("label") is not None
    columns = [name for name in KEPT_TRUTHS if not (labelled and name == "label")]
    column = next((found for name in columns if (found := kept(batch, name)) is not None), None)
    if column is None and labelled:
        hint = "--map ground_truth=COLUMN --keep ground_truth names a column that has it"
        raise UsageError("the rows have no ground truth: `label` says whether an answer is good", hint=hint)
    if column is None and batch.column("messages") is None and batch.column("completion") is None:
        hint = f"--keep COLUMN, for a column named {listed(columns)}; --map ground_truth=PATH --keep ground_truth"
        raise UsageError("the rows have no ground truth", hint=f"{hint} reads one inside another column")
    found = list(map(answer_text, answers(batch))) if column is None else decode_values(column)
    missing = [row for row, truth in enumerate(found) if truth is ABSENT or truth in (None, "", [])]
    text, hint = "the row has no ground truth", "--on-error skip drops such rows"
    refuse_rows(missing, lambda row: RowError(text, code="view.truth", hint=hint))
    return found


def kept(batch: RenderableBatch, name: str) -> pa.Array | None:
    """Return the kept column of that name, which is not the part of a conversation; None if there is none."""
    return batch.column(f"{KEPT}{name}" if name in CONVERSATIONS else name)


def as_text(truth: Any) -> str:
    """Return a ground truth as text: anything else as JSON."""
    plain = to_plain(truth)
    return plain if isinstance(plain, str) else dumps(plain)


def answers(batch: RenderableBatch) -> list[Any]:
    return decode_conversations(prompt_and_completion(batch)[1])


def answer_text(turns: Any) -> Any:
    """Return the content of the only turn of an answer; None if it is not text."""
    content = turns[0].get("content") if turns and len(turns) == 1 else None
    return content if isinstance(content, str) else None


def named(batch: RenderableBatch, name: str) -> pa.Array:
    """Return the column of that name; raises UsageError if there is none."""
    column = batch.column(name)
    if column is None:
        hint = f"--map \"{name}={{{{ 'NAME' }}}}\" --keep {name}"
        raise UsageError(f"the rows have no `{name}`, by which the trainer finds the reward", hint=hint)
    return column


def only_question(turns: Any) -> str:
    """Return the text of the only turn of a prompt, which is the user's; raises RowError for any other prompt."""
    content = turns[0].get("content") if turns and len(turns) == 1 and turns[0].get("role") == "user" else None
    if not isinstance(content, str):
        raise RowError(
            "the prompt is more than one question", code="view.instruction",
            hint="--transform system_turns=fold moves system text into it, --on-error skip drops such rows",
        )  # fmt: skip
    return content
