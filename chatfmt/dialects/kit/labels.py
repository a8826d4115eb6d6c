"""Labels of answers and steps: good or bad, in the spellings of datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_WORDS = {
    **dict.fromkeys((
        "true", "t", "yes", "y", "1", "1.0", "+1", "+", "good", "positive", "pos", "correct", "right", "chosen",
        "accept", "accepted", "desirable", "up", "thumbs_up", "thumbs up", "like", "liked", "preferred", "👍",
    ), True),
    **dict.fromkeys((
        "false", "f", "no", "n", "0", "0.0", "-1", "-", "bad", "negative", "neg", "incorrect", "wrong", "reject",
        "rejected", "undesirable", "down", "thumbs_down", "thumbs down", "dislike", "disliked", "👎",
    ), False),
}  # fmt: skip
"""Words for good and bad, in lower case."""


def label_of(value: Any) -> bool | None:
    """Return whether a label says good: a boolean, 1 or 0 (or -1), or a word for it; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return None if value not in (1, 0, -1) else value == 1
    return _WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def step_labels(values: Sequence[Any]) -> list[bool] | None:
    """Return the labels of the steps of one answer, None if one of them is not a label.

    A step rated neutral (0 beside -1, or the word) is not right, as in TRL's copy of PRM800K.
    """
    found = [False if value == "neutral" else label_of(value) for value in values]
    return None if None in found else found  # type: ignore[return-value]
