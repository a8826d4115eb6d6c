"""Preferences from answers that are scored, ranked or compared.

The option `pairs` selects the pairs of a row: `best-worst` (one pair, the default), `best-second`, or `all` (every two
answers). The option `ties` decides about answers with equal scores: `drop` (no pair, the default), `first` (the first
answer is better) or `error`. With the option `margin` a pair is dropped too if its scores differ by less. Rows without
a pair are counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DialectError
from ...field_path import value_at
from ...schema import Turn
from ..chat.plain_turns import plain_turns
from ..chat.transcripts import parse_hh
from ..chat.turns import find_turn_keys, read_turn_list, turns_at
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, columns_named, find_side_parts, json_type
from ..kit.literals import read_list_literal
from ..kit.names import ANSWER_LISTS, SCORE_LISTS
from ..kit.output import Dropped, OutputRow, by_row

ScoredAnswer = tuple[Any, Any]
"""The score of an answer (higher is better), and the answer: text or turns."""


def to_turns(value: Any, columns: Columns, role: str) -> list[Turn]:
    """Return the turns of a prompt or an answer: text becomes a turn of `role`, or a dialogue if it is in hh format."""
    value = read_list_literal(value)
    if isinstance(value, str):
        dialogue = parse_hh(value) if role == "user" else None
        if dialogue is None:
            return [{"role": role, "content": value}]
        return dialogue if dialogue[-1]["content"].strip() else dialogue[:-1]
    turns = read_turn_list(value)
    if not turns or find_turn_keys(turns, columns) is None:
        raise DialectError(
            f"the {'prompt' if role == 'user' else 'answer'} is {json_type(value)}, not text or turns", code="col.type"
        )
    return plain_turns(turns, columns)


def make_pairs(prompt: Any, answers: Sequence[ScoredAnswer], columns: Columns) -> list[OutputRow | Dropped]:
    """Return the preference pairs of one prompt and its scored answers, with `Dropped` for each answer in no pair."""
    known = [answer for answer in answers if answer[0] is not None]
    ranked = sorted(known, key=lambda answer: answer[0], reverse=True)
    if len(ranked) < 2:
        return [Dropped("pair.single")]
    mode = columns.option("pairs", "best-worst", "best-worst", "best-second", "all")
    chosen = {
        "best-worst": [(ranked[0], ranked[-1])],
        "best-second": [(ranked[0], ranked[1])],
        "all": list(itertools.combinations(ranked, 2)),
    }[mode]
    turns = to_turns(prompt, columns, "user")
    pairs = [_pair(turns, better, worse, columns) for better, worse in chosen]
    return [*pairs, *[Dropped("answers")] * (len(answers) - (2 if mode != "all" else len(ranked)))]


def _pair(prompt: list[Turn], better: ScoredAnswer, worse: ScoredAnswer, columns: Columns) -> OutputRow | Dropped:
    if better[0] == worse[0]:
        ties = columns.option("ties", "drop", "drop", "first", "error")
        if ties == "error":
            raise DialectError(
                "the answers have the same score", code="pair.tie", hint="--dialect-option ties=drop or ties=first"
            )
        if ties == "drop":
            return Dropped("pair.tie")
    elif _difference(better[0], worse[0]) < columns.number("margin"):
        return Dropped("pair.margin")
    chosen, rejected = (to_turns(answer, columns, "assistant") for _, answer in (better, worse))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _difference(better: Any, worse: Any) -> float:
    """Return by how much the deciding scores differ; infinite for scores that are not numbers."""
    first = (better[0], worse[0]) if isinstance(better, tuple) else (better, worse)
    return abs(first[0] - first[1]) if all(isinstance(score, (int, float)) for score in first) else math.inf


@by_row
def arena(record: SourceRow, columns: Columns) -> list[OutputRow | Dropped]:
    """Two conversations with the same questions and the winner (Chatbot Arena).

    In:  `{"conversation_a": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}],
           "conversation_b": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "No."}],
           "winner": "model_a"}`
    Out: `{"chosen": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "No."}]}`

    The option `ties` decides about `tie` and `tie (bothbad)`. The view splits off the shared prompt.
    Raises DialectError `msg.role`, `col.type`.
    """
    a, b = (value_at(record, name) for name in ("conversation_a", "conversation_b"))
    winner = record.get("winner")
    known = {"model_a": ((1, a), (0, b)), "model_b": ((1, b), (0, a)), **dict.fromkeys(TIES, ((0, a), (0, b)))}
    if winner not in known:
        raise DialectError(f"the winner `{winner}` is not one of {', '.join(f'`{name}`' for name in known)}",
                           code="col.type")  # fmt: skip
    row = _pair([], *known[winner], columns)
    return [row if isinstance(row, Dropped) else {"chosen": row["chosen"], "rejected": row["rejected"]}]


TIES = ("tie", "tie (bothbad)", "both_bad")


def find_arena_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with two conversations and a winner."""
    names = ("conversation_a", "conversation_b", "winner")
    return {name: name for name in names} if all(record.get(name) is not None for name in names) else None


@by_row
def ultrainteract(record: SourceRow, columns: Columns) -> OutputRow:
    """A trajectory of turns with a chosen and a rejected continuation (UltraInteract).

    In:  `{"trajectory": [{"from": "user", "value": "Sky?"}], "chosen": "Blue.", "rejected": "Green."}`
    Out: `{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "assistant", "content": "Green."}]}`

    Raises DialectError `msg.role`, `col.type`.
    """
    return {
        "prompt": to_turns(record.get("trajectory"), columns, "user"),
        "chosen": to_turns(record.get("chosen"), columns, "assistant"),
        "rejected": to_turns(record.get("rejected"), columns, "assistant"),
    }


def find_ultrainteract_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a trajectory, a chosen and a rejected text."""
    fits = isinstance(record.get("trajectory"), list) and isinstance(record.get("chosen"), str)
    return {name: name for name in ("trajectory", "chosen", "rejected")} if fits and "rejected" in record else None


@by_row
def scored(record: SourceRow, columns: Columns) -> list[OutputRow | Dropped]:
    """Several answers to one prompt, each with a score or a rank (UltraFeedback, Nectar, distilabel, NeMo-RL).

    In:  `{"instruction": "Sky?", "completions": [{"response": "Blue.", "fine-grained_score": 4.5},
           {"response": "Green.", "fine-grained_score": 1.0}]}`
    Out: `{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "assistant", "content": "Green."}]}`

    or   `{"prompt": "Sky?", "responses": ["Blue.", "Green."], "scores": [0.9, 0.1]}`

    A lower `rank` is better; a higher score is better. Answers without scores are in order of quality with the option
    `ranked` set to `best-first` or `worst-first`. The answers of a row are compared by the first of SCORES that
    any of them has, then by the next ones; an answer without it is dropped. The options are `pairs`, `ties` and
    `margin`. Raises DialectError `col.type`.
    """
    path = columns.path("answers") or "completions"
    items, ratings = read_list_literal(value_at(record, path)), columns.path("ratings")
    prompt = value_at(record, columns.path("prompt") or "prompt")
    if not isinstance(items, list):
        raise DialectError(f"column `{path}` is {json_type(items)}, not a list of answers", code="col.type")
    if ratings is not None:
        return make_pairs(prompt, _rated(items, read_list_literal(value_at(record, ratings)), path, ratings), columns)
    if (order := _ranked(columns)) != "no":
        places = [1 + place for place in range(len(items))]
        return make_pairs(prompt, _rated(items, places, path, "rank" if order == "best-first" else "score"), columns)
    if not all(isinstance(item, Mapping) for item in items):
        raise DialectError(
            f"the answers in `{path}` have no scores",
            hint="map the column of their scores with --map ratings=COLUMN",
            code="col.type",
        )
    return make_pairs(prompt, list(zip(score_answers(items), map(_answer_text, items), strict=True)), columns)


def _ranked(columns: Columns) -> str:
    """Return whether the order of answers says how good they are, and which is best."""
    return columns.option("ranked", "no", "no", "best-first", "worst-first")


def _rated(items: Sequence[Any], ratings: Any, path: str, name: str) -> list[ScoredAnswer]:
    """Return answers with the scores in the column `name`, a lower one better if its name says `rank`."""
    if not isinstance(ratings, list) or len(ratings) != len(items):
        raise DialectError(f"`{name}` does not hold one score for each answer in `{path}`", code="col.type")
    sign = -1 if "rank" in name.lower() else 1
    scores = [None if (number := to_number(rating)) is None else (sign * number,) for rating in ratings]
    return [
        (score, _answer_text(item) if isinstance(item, Mapping) and "role" not in item else item)
        for score, item in zip(scores, items, strict=True)
    ]


def score_answers(items: Sequence[Mapping[str, Any]]) -> list[tuple[float, ...] | None]:
    """Return the scores of each answer, higher is better; None for one without the deciding score."""
    scores = [[_score(item, name) for name in SCORES] for item in items]
    first = next((key for key in range(len(SCORES)) if any(own[key] is not None for own in scores)), 0)
    return [
        None if own[first] is None else tuple(-math.inf if score is None else score for score in own[first:])
        for own in scores
    ]


def _score(item: Mapping[str, Any], name: str) -> float | None:
    number = to_number(item.get(name))
    return -number if number is not None and name == "rank" else number


SCORES = ("rank", "fine-grained_score", "overall_score", "score", "rating", "reward")
"""Keys of an answer that hold a score, the deciding one first; a lower rank is better."""


def to_number(value: Any) -> float | None:
    """Return a number or a number as text; None for anything else (`N/A`, `nan`)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


ANSWER_KEYS = ("response", "answer", "completion", "text", "output", "content")


def _answer_text(item: Mapping[str, Any]) -> Any:
    return next((item[name] for name in ANSWER_KEYS if item.get(name) is not None), None)


def find_scored_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a prompt and several answers with scores."""
    prompts = ("instruction", "prompt", "input", "question", "query", "context", "messages", "conversations")
    prompt = columns.path("prompt") or next((name for name in prompts if record.get(name) is not None), None)
    names = columns.paths("answers", columns_named(record, ANSWER_LISTS))
    lists = ((name, read_list_literal(value_at(record, name))) for name in names)
    path, items = next(((name, items) for name, items in lists if isinstance(items, list) and items), ("", []))
    if prompt is None or not path:
        return None
    found = {"prompt": prompt, "answers": path, **find_side_parts(record, columns)}
    ratings = columns.path("ratings") or next(
        (n for n in columns_named(record, SCORE_LISTS) if _are_scores(record[n])), None
    )
    if ratings is not None and isinstance(read_list_literal(value_at(record, ratings)), list):
        return {**found, "ratings": ratings}
    if _ranked(columns) != "no" and isinstance(items, list) and len(items) > 1:
        return found
    if not all(isinstance(item, Mapping) for item in items):
        return None
    return found if all(_answer_text(item) is not None for item in items) and any(score_answers(items)) else None


def _are_scores(value: Any) -> bool:
    """Return whether a value is a list of numbers, or of numbers as text, of which some may be missing."""
    value = read_list_literal(value)
    return isinstance(value, list) and any(to_number(item) is not None for item in value)


@by_row
def compared(record: SourceRow, columns: Columns) -> list[OutputRow | Dropped]:
    """Two answers in separate columns and which is better (SHP, HelpSteer3, PKU-SafeRLHF, WebGPT, StackExchange).

    In:  `{"prompt": "Sky?", "response_0": "Green.", "response_1": "Blue.", "better_response_id": 1}`
    Out: `{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "assistant", "content": "Green."}]}`

    COMPARISONS lists the datasets. With the option `prefer` set to `safer`, PKU-SafeRLHF's `safer_response_id` decides.
    The option `ties` decides about equal answers. Raises DialectError `col.type`.
    """
    found = _find_comparison(record, columns)
    if found is None:
        raise DialectError("the row does not say which of two answers is better", code="col.null")
    (prompt, first, second, _), scores = found
    answers = list(zip(scores, (value_at(record, first), value_at(record, second)), strict=True))
    return make_pairs(value_at(record, prompt), answers, columns)


Comparison = tuple[str, str, str, Any]
"""The columns of the prompt and of the two answers, and a function from a row to their scores."""


def _one_better(name: str, second: Any) -> Any:
    """Return a function that scores by the column `name`, 0 or 1; `second` means that the second is better."""
    return lambda record: None if record.get(name) not in (0, 1) else ((0, 1) if record[name] == second else (1, 0))


def _webgpt(record: SourceRow) -> tuple[float, float] | None:
    first, second = (to_number(record.get(name)) for name in ("score_0", "score_1"))
    return None if first is None or second is None else (first, second)


def _overall(record: SourceRow) -> tuple[float, float] | None:
    """Return HelpSteer3's scores: below 0 the first answer is better, above it the second, 0 is a tie."""
    preference = to_number(record.get("overall_preference"))
    return None if preference is None else (-preference, preference)


COMPARISONS: dict[str, Comparison] = {
    "shp": ("history", "human_ref_A", "human_ref_B", _one_better("labels", 0)),
    "helpsteer3": ("context", "response1", "response2", _overall),
    "helpsteer3-text": ("prompt", "response1", "response2", _overall),
    "safer": ("prompt", "response_0", "response_1", _one_better("safer_response_id", 1)),
    "better": ("prompt", "response_0", "response_1", _one_better("better_response_id", 1)),
    "webgpt": ("question.full_text", "answer_0", "answer_1", _webgpt),
    "stack-exchange": ("question", "response_j", "response_k", lambda record: (1, 0)),
}
"""Known datasets: the prompt, the two answers, and their scores (None if the row has none)."""
COMPARED_SCORES = ("labels", "overall_preference", "safer_response_id", "better_response_id", "score_0", "score_1")
"""The columns that those scores are read from."""
COMPARED = frozenset(column for comparison in COMPARISONS.values() for column in comparison[:3]).union(COMPARED_SCORES)
"""The columns of those datasets, so that `--map` can give one another name."""


def _find_comparison(record: SourceRow, columns: Columns) -> tuple[Comparison, tuple[float, float]] | None:
    prefer = columns.option("prefer", "better", "better", "safer")
    for name, comparison in COMPARISONS.items():
        if name in ("safer", "better") and name != prefer:
            continue
        prompt, first, second, scores = comparison
        values = [value_at(record, path) for path in (prompt, first, second)]
        if all(value is not None for value in values) and (found := scores(record)) is not None:
            return comparison, found
    return None


def find_compared_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with the columns of one of COMPARISONS."""
    found = _find_comparison(record, columns)
    if found is None:
        return None
    prompt, first, second, _ = found[0]
    own = {name: name for name in COMPARED_SCORES if name in record}
    return {"prompt": prompt, "first": first, "second": second} | own


@by_row
def rejected_response(record: SourceRow, columns: Columns) -> OutputRow:
    """A conversation that ends with the chosen answer, and a rejected one (ms-swift).

    In:  `{"messages": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}],
           "rejected_response": "Green."}`
    Out: `{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "assistant", "content": "Green."}]}`

    `rejected_messages` is a whole conversation; then both sides are. Raises DialectError `msg.role`.
    """
    turns = to_turns(value_at(record, columns.path("messages") or "messages"), columns, "user")
    if record.get("rejected_messages") is not None:
        return {"chosen": turns, "rejected": to_turns(record["rejected_messages"], columns, "assistant")}
    last = to_turns(record.get("rejected_response"), columns, "assistant")
    return {"prompt": turns[:-1], "chosen": turns[-1:], "rejected": last}


def find_rejected_response_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with turns and a rejected response or conversation."""
    names = [name for name in ("rejected_response", "rejected_messages") if record.get(name)]
    path = columns.path("messages") or "messages"
    keys = find_turn_keys(turns_at(record, path), columns) if names else None
    if keys is None:
        return None
    return {"messages": path, **keys, "rejected": names[0], **find_side_parts(record, columns)}


DIALECTS = {
    "arena": Dialect(arena, find_arena_parts, "two conversations and the winner (Chatbot Arena)", rank=120,
                     parts=frozenset(), type="preference"),
    "ultrainteract": Dialect(ultrainteract, find_ultrainteract_parts,
                             "a trajectory with a chosen and a rejected continuation (UltraInteract)", rank=125,
                             parts=frozenset(), type="preference"),
    "rejected-response": Dialect(rejected_response, find_rejected_response_parts,
                                 "a conversation and a rejected response (ms-swift)", rank=140, type="preference"),
    "compared": Dialect(compared, find_compared_parts, "two answers and which one is better", rank=155, parts=COMPARED,
                        type="preference"),
    "scored": Dialect(scored, find_scored_parts, "several answers with scores or ranks", rank=160,
                      parts=frozenset({"prompt", "answers", "ratings"}), type="preference",
                      decided_by=frozenset(SCORES)),
}  # fmt: skip
