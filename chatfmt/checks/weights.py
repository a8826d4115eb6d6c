"""Checks of the weights of turns: what spans or labels cannot say, and what a trainer does not read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..json_columns import dumps
from ..turn_columns import BoolArray, offsets_of, role_is, train_flags
from .column_view import ColumnView, Finding, Limits


def lost_weights(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A weight that is neither 0 nor 1, with `--mask` or a view of spans."""
    for turn, (name, value) in enumerate(train_flags(view.turns) if limits.masked else ()):
        if isinstance(value, (int, float)) and value not in (0, 1):
            yield view.finding("msg.weight", turn, f"`{name}` is {value}, and the turn is trained in full")


def ignored_weights(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A weight of an answer that the trainer, which trains on it in full, does not read."""
    if limits.ignored_weights == "none" or view.name == "prompt":
        return
    exact = (0, 1) if limits.ignored_weights == "fractions" else (1,)
    flags = train_flags(view.turns)
    concerned = role_is(view.turns, "assistant") if flags else np.zeros(0, np.bool_)
    if limits.ignored_weights == "last" and flags:
        concerned = _last(view, concerned)
    for turn in np.flatnonzero(concerned).tolist():
        name, value = flags[turn]
        if name and value not in exact:
            detail = f"`{name}` is {dumps(value)}, and the trainer trains the turn in full"
            yield view.finding("msg.ignored_weight", turn, detail)


def _last(view: ColumnView, turns: BoolArray) -> BoolArray:
    """Mark the last of the marked turns of each conversation."""
    rest = offsets_of(np.asarray(turns, np.int64))
    ends = np.repeat(rest[offsets_of(view.lengths)[1:]], view.lengths)
    return np.asarray(turns & (rest[1:] == ends), np.bool_)
