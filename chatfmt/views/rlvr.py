"""Views for reinforcement learning with verifiable rewards: a prompt, and the ground truth of its answer.

The forms are those of open-instruct (`messages`, `ground_truth`, `dataset`), verl (`prompt`, `data_source`,
`reward_model`) and NeMo RL (`input`, `output`). The ground truth is the first column of TRUTHS that is kept; without
one it is the answer of the conversation.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ..errors import Location, RowError, UsageError
from ..json_columns import ABSENT, TEXT, decode_conversations, decode_values, json_array
from .batch import Fields, RenderableBatch, template_inputs
from .split import prompt, prompt_and_completion

TRUTHS = ("ground_truth", "final_answer", "answer", "solution", "label", "target")
"""Columns that may hold the ground truth, the most telling first."""


def messages(batch: RenderableBatch) -> Fields:
    """`messages`, the prompt, with `ground_truth` as text and `dataset`, which names the verifier in open-instruct."""
    truths = pa.array([str(truth) for truth in ground_truths(batch)], TEXT)
    verifier = named(batch, "dataset", "gsm8k")
    return {"messages": prompt(batch)["prompt"], "ground_truth": truths, "dataset": verifier}


def prompts(batch: RenderableBatch) -> Fields:
    """`prompt` with `data_source`, by which verl finds the reward, and `reward_model`, which has the ground truth."""
    rewards = json_array([{"style": "rule", "ground_truth": truth} for truth in ground_truths(batch)])
    source = named(batch, "data_source", "openai/gsm8k")
    return {"prompt": prompt(batch)["prompt"], "data_source": source, "reward_model": rewards, **template_inputs(batch)}


def texts(batch: RenderableBatch) -> Fields:
    """`input` and `output`, the text of a question and its ground truth.

    Raises RowError `view.instruction` for a prompt that is more than one question.
    """
    asked = [only_question(row, turns) for row, turns in enumerate(decode_conversations(prompt(batch)["prompt"]))]
    truths = [str(truth) for truth in ground_truths(batch)]
    return {"input": pa.array(asked, TEXT), "output": pa.array(truths, TEXT)}


def ground_truths(batch: RenderableBatch) -> list[Any]:
    """Return the ground truth of each row; raises RowError `view.truth` for a row without one."""
    name = next((name for name in TRUTHS if batch.column(name) is not None), "")
    if not name and batch.column("messages") is None and batch.column("completion") is None:
        raise UsageError("the rows have no ground truth", hint=f"--keep COLUMN, for a column named {listed(TRUTHS)}")
    found = decode_values(batch.required(name)) if name else list(map(answer_text, answers(batch)))
    for row, truth in enumerate(found):
        if truth is ABSENT or truth is None or truth == "":
            hint = "--on-error skip drops such rows"
            raise RowError("the row has no ground truth", code="view.truth", at=Location(row=row), hint=hint)
    return found


def answers(batch: RenderableBatch) -> list[Any]:
    return decode_conversations(prompt_and_completion(batch)[1])


def answer_text(turns: Any) -> Any:
    """Return the content of the only turn of an answer; None if it is no text."""
    content = turns[0].get("content") if turns and len(turns) == 1 else None
    return content if isinstance(content, str) else None


def named(batch: RenderableBatch, name: str, example: str) -> pa.Array:
    """Return the kept column of that name; raises UsageError if there is none."""
    column = batch.column(name)
    if column is None:
        hint = f"--map \"{name}={{{{ '{example}' }}}}\" --keep {name}"
        raise UsageError(f"the rows have no `{name}`, by which the trainer finds the reward", hint=hint)
    return column


def only_question(row: int, turns: Any) -> str:
    """Return the text of the only turn of a prompt, which is the user's; raises RowError for any other prompt."""
    content = turns[0].get("content") if turns and len(turns) == 1 and turns[0].get("role") == "user" else None
    if not isinstance(content, str):
        raise RowError(
            "the prompt is more than one question", code="view.instruction", at=Location(row=row),
            hint="--transform system_turns=fold moves system text into it, --on-error skip drops such rows",
        )  # fmt: skip
    return content


def listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
