"""The answers of gsm8k (Cobbe et al. 2021, github.com/openai/grade-school-math): annotations, final answer, steps.

An answer is lines of working, then `#### ` and the result. A calculation has an annotation, `<<48/2=24>>`, with the
result again right after it. In the socratic files a line is `Sub-question? ** working`.
Every answer of the dataset ends with exactly one final line; results may be negative or have thousands commas, which
are kept.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UsageError
from ..json_columns import TEXT, edit_keys, integers, message_columns, with_column
from ..schema import KEYS, Conversation
from ..turn_columns import BoolArray, any_turn, contains, field, last_turns, role_is, to_bools, with_field
from .edit import TAILS, Changed, edit_rows

CALCULATION = r"<<[^<>=\n]*=[^<>=\n]*>>"
"""One annotation; requiring `=` and one line excludes shifts and streams of C++."""
FINAL = r"\n#### ([^\n]*)\z"
FINAL_COLUMN = "final_answer"
_STEP = re.compile(r"(?P<question>[^\n]*?) \*\* (?P<step>[^\n]*)")


def drop_calculations(batch: pa.RecordBatch, value: str) -> Changed:
    """`remove`: delete the annotations of assistant turns and no other character; counts rows.

    "48/2 = <<48/2=24>>24 clips"   →   "48/2 = 24 clips"
    """
    changed = np.zeros(len(batch), np.bool_)
    for name, column in message_columns(batch):
        turns = column.flatten()
        content = field(turns, "content")
        if content.type != TEXT:
            continue
        found = to_bools(pc.match_substring_regex(content, CALCULATION)) & role_is(turns, "assistant")
        if found.any():
            without = pc.replace_substring_regex(content, CALCULATION, "")
            batch = with_column(batch, name, with_field(column, "content", _where(found, without, content)))
            changed |= any_turn(column, found)
    return batch, Counter(calculator=int(changed.sum()))


def _where(chosen: BoolArray, one: pa.Array, other: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(chosen), one, other)


def final_answer(batch: pa.RecordBatch, value: str) -> Changed:
    r"""Remove, move or box the line `#### 72` that ends the last turn, if that is the assistant's; counts rows.

        remove   "…\n#### 72"  →  "…"
        column   as `remove`, with "72" in the column `final_answer` (null without such a line)
        boxed    "…\n#### 72"  →  "…\n\boxed{72}"

    Raises UsageError if a kept column is named `final_answer`.
    """
    changed = np.zeros(len(batch), np.bool_)
    results = pa.nulls(len(batch), TEXT)
    replacement = "\n" + r"\\boxed{\1}" if value == "boxed" else ""
    for name, column in message_columns(batch, TAILS):
        content = field(column.flatten(), "content")
        found = _final_turns(column, content)
        if found.any():
            results = pc.coalesce(results, _results(column, found, content))
            without = _where(found, pc.replace_substring_regex(content, FINAL, replacement), content)
            batch = with_column(batch, name, with_field(column, "content", without))
            changed |= any_turn(column, found)
    if value == "column":
        batch = _with_results(batch, results)
    return batch, Counter(final_answer=int(changed.sum()))


def _final_turns(column: pa.ListArray, content: pa.Array) -> BoolArray:
    if content.type != TEXT:
        return np.zeros(len(content), np.bool_)
    answers = last_turns(column) & role_is(column.flatten(), "assistant")
    return answers & to_bools(pc.match_substring_regex(content, FINAL))


def _results(column: pa.ListArray, found: BoolArray, content: pa.Array) -> pa.Array:
    """The result of each row, null without one."""
    texts = pc.struct_field(
        pc.extract_regex(content.filter(pa.array(found)), r"(?s)\A.*\n#### (?P<result>[^\n]*)\z"), 0
    )
    rows = any_turn(column, found)
    return texts.take(integers(np.cumsum(rows) - 1, ~rows))


def _with_results(batch: pa.RecordBatch, results: pa.Array) -> pa.RecordBatch:
    if FINAL_COLUMN in batch.schema.names:
        raise UsageError(
            f"there is a column `{FINAL_COLUMN}` already", hint="keep other columns, or `final_answer=remove`"
        )
    if KEYS in batch.schema.names:
        batch = with_column(batch, KEYS, edit_keys(batch.column(KEYS), lambda keys: [*keys, FINAL_COLUMN]))
    return with_column(batch, FINAL_COLUMN, results)


def socratic_steps(batch: pa.RecordBatch, value: str) -> Changed:
    r"""`steps`: a socratic answer becomes one turn per step, its sub-question a user turn; counts rows.

        user       A robe takes 2 bolts … How many in total?      user       A robe takes 2 bolts … How many in total?
        assistant  How many bolts of white? ** It takes 1      →             How many bolts of white?
                   How many in total? ** 2+1=3                    assistant  It takes 1
                   #### 3                                         user       How many in total?
                                                                  assistant  2+1=3
                                                                             #### 3

    The first sub-question becomes the last line of the question, so that turns alternate. The final line stays with the
    last step. Only ` ** ` and the line breaks between steps are removed: joined as `question ** step` lines, they are
    the answer again. An answer with any other line stays as it is. Only `messages` that end with a user turn and the
    answer are changed.
    """
    for name, column in message_columns(batch, ("messages",)):
        turns = column.flatten()
        content = field(turns, "content")
        if content.type != TEXT:
            continue
        marked = to_bools(contains(content, " ** ")) & role_is(turns, "assistant")
        column, rows = edit_rows(column, any_turn(column, marked), _socratic_turns)
        return with_column(batch, name, column), Counter(socratic=int(rows.sum()))
    return batch, Counter(socratic=0)


def _socratic_turns(turns: Conversation) -> Conversation:
    if len(turns) < 2 or [turn.get("role") for turn in turns[-2:]] != ["user", "assistant"]:
        return turns
    before, question, answer = turns[:-2], turns[-2], turns[-1]
    steps = split_steps(answer.get("content"))
    if not steps or not isinstance(question.get("content"), str):
        return turns
    questions = [f"{question['content']}\n{steps[0][0]}", *(sub_question for sub_question, _ in steps[1:])]
    pairs = zip(questions, (step for _, step in steps), strict=True)
    return before + [
        turn for ask, step in pairs for turn in ({**question, "content": ask}, {**answer, "content": step})
    ]


def split_steps(answer: object) -> list[tuple[str, str]]:
    """Split a socratic answer into (sub-question, step), the final line in the last step; empty for other answers."""
    if not isinstance(answer, str):
        return []
    lines = answer.split("\n")
    final = [lines.pop()] if lines[-1].startswith("#### ") else []
    found = [_STEP.fullmatch(line) for line in lines]
    steps = [(match["question"], match["step"]) for match in found if match]
    if not steps or len(steps) != len(lines):
        return []
    steps[-1] = (steps[-1][0], "\n".join([steps[-1][1], *final]))
    return steps
