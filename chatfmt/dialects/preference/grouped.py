"""Preferences from several rows, or from several lists in one row."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ...errors import DialectError, located, map_rows
from ...field_path import value_at
from ..chat.messages import find_messages_parts
from ..chat.turns import find_turn_keys
from ..dialect import Dialect
from ..instruction.prompt_completion import find_question_answer_parts
from ..kit.columns import Columns, SourceRow, find_side_parts, find_value, json_type, records_of
from ..kit.output import Dropped, OutputRow, batch_of_rows, by_row
from .scored import make_pairs, to_number, to_turns

RATINGS = ("helpfulness", "rating", "score", "reward")


def rated_rows(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Adjacent rows with the same prompt, each with an answer and a rating (HelpSteer2); pairs from every group.

    In:  `{"prompt": "Sky?", "response": "Green.", "helpfulness": 1}`,
         `{"prompt": "Sky?", "response": "Blue.", "helpfulness": 4}`
    Out: `{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "assistant", "content": "Green."}]}`

    A higher rating is better; `--map ratings=COLUMN` names another column. The options `pairs` and `ties` select the
    pairs (see `scored`). A pair has the row number, the system text and the kept columns of the first row of its group.
    A prompt with one rated answer makes no pair. Raises DialectError `col.null`, `col.type`.
    """
    records = records_of(batch)
    prompts = map_rows(lambda record: _text(record, columns.path("prompt") or "prompt"), records)
    answers = map_rows(lambda record: _answer(record, columns), records)
    made: list[list[OutputRow | Dropped]] = [[] for _ in records]
    for prompt, group in itertools.groupby(range(len(records)), lambda row: prompts[row]):
        first, *others = group
        with located(row=first):
            made[first] = make_pairs(prompt, [answers[row] for row in (first, *others)], columns)
    return batch_of_rows(batch, columns, made)


def _answer(record: SourceRow, columns: Columns) -> tuple[Any, str]:
    rating = to_number(value_at(record, columns.path("ratings") or RATINGS[0]))
    return rating, _text(record, columns.path("completion") or "response")


def _text(record: SourceRow, path: str) -> str:
    value = value_at(record, path)
    if not isinstance(value, str):
        code = "col.null" if value is None else "col.type"
        raise DialectError(f"column `{path}` is {json_type(value)}, not text", code=code)
    return value


def find_rated_rows_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a question, an answer and a rating."""
    found = find_question_answer_parts(record, columns)
    ratings = find_value(record, RATINGS, columns, "ratings")
    if found is None or ratings is None or to_number(value_at(record, ratings)) is None:
        return None
    return {**{part: path for part, path in found.items() if part not in ("context", "history")}, "ratings": ratings}


@by_row
def positive_negative(record: SourceRow, columns: Columns) -> list[OutputRow]:
    """A conversation with lists of positive and negative continuations (ms-swift's data for rerankers).

    In:  `{"messages": [{"role": "user", "content": "Sky?"}],
           "positive_messages": [[{"role": "assistant", "content": "Blue."}]],
           "negative_messages": [[{"role": "assistant", "content": "Green."}],
           [{"role": "assistant", "content": "Red."}]]}`
    Out: `{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "assistant", "content": "Green."}]}`

    The first of each list are paired; with the option `pairs` set to `all`, every positive with every negative one.
    Data for embeddings, whose lists hold user turns, is not read. Raises DialectError `msg.role`, `col.type`.
    """
    prompt = to_turns(value_at(record, columns.path("messages") or "messages"), columns, "user")
    sides = [[to_turns(turns, columns, "assistant") for turns in _turn_lists(record, name)] for name in SIDES]
    pairs = list(itertools.product(*sides))
    if columns.option("pairs", "first", "first", "all") == "first":
        pairs = pairs[:1]
    return [{"prompt": prompt, "chosen": positive, "rejected": negative} for positive, negative in pairs]


SIDES = ("positive_messages", "negative_messages")


def _turn_lists(record: SourceRow, name: str) -> list[Any]:
    """Return the lists of turns in a column; a single list of turns counts as one."""
    value = record.get(name)
    if not isinstance(value, list):
        raise DialectError(
            f"column `{name}` is {json_type(value)}, not lists of turns",
            code="col.null" if value is None else "col.type",
        )
    return [value] if value and isinstance(value[0], Mapping) else value


def find_positive_negative_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a conversation and lists of positive and negative answers."""
    if not all(isinstance(record.get(name), list) for name in SIDES):
        return None
    found = find_messages_parts(record, columns)
    answers = [turns for name in SIDES for turns in _turn_lists(record, name)]
    fits = found and answers and all(_is_continuation(turns, columns) for turns in answers)
    return (
        {**(found or {}), **dict(zip(SIDES, SIDES, strict=True)), **find_side_parts(record, columns)} if fits else None
    )


def _is_continuation(turns: Any, columns: Columns) -> bool:
    """Return whether turns continue a conversation: the first is not a system or user turn."""
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        return False
    keys = find_turn_keys(turns, columns) or {}
    return bool(turns) and turns[0].get(keys.get("messages.role", "role")) not in ("user", "system", "human")


DIALECTS = {
    "positive-negative": Dialect(positive_negative, find_positive_negative_parts,
                                 "a conversation with positive and negative continuations (ms-swift)", rank=145,
                                 type="preference"),
    "rated-rows": Dialect(rated_rows, find_rated_rows_parts, "rated answers to one prompt, one per row", rank=500,
                          parts=frozenset({"prompt", "completion", "ratings"}), type="preference", opt_in=True,
                          whole_file=True),
}  # fmt: skip
