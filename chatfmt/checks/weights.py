"""Checks of the weights of turns: what spans or labels cannot say, and what a trainer does not read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ..json_columns import ABSENT, decode_values, dumps
from ..schema import TRAIN_DETAILS, IgnoredWeights
from ..turn_columns import field, marked_after, role_is, train_flags
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
    found = [*unread_weights(view.turns, limits.ignored_weights)]
    concerned = role_is(view.turns, "assistant") if found else np.zeros(0, np.bool_)
    if limits.ignored_weights == "last" and found:
        concerned &= marked_after(view.column, concerned) == 0
    for turn, name, value in found:
        if concerned[turn]:
            says = "names the parts to train" if name in TRAIN_DETAILS else f"is {dumps(value)}"
            detail = f"`{name}` {says}, and the trainer trains the turn in full"
            yield view.finding("msg.ignored_weight", turn, detail, _hint(view, limits, name, value))


def unread_weights(turns: pa.StructArray, ignored: IgnoredWeights) -> Iterator[tuple[int, str, Any]]:
    """Yield the weights that a trainer does not read: the turn, the key and its value."""
    exact = (0, 1) if ignored in ("fractions", "parts") else (1,)
    for turn, (name, value) in enumerate(train_flags(turns)):
        if name and value not in exact:
            yield turn, name, value
    for name in (LOSS_MASK,) if ignored == "fractions" else (LOSS_MASK, *TRAIN_DETAILS):
        if turns.type.get_field_index(name) >= 0:
            for turn, value in enumerate(decode_values(field(turns, name))):
                if value is not ABSENT and value not in (None, 1):
                    yield turn, name, value


def _hint(view: ColumnView, limits: Limits, name: str, value: Any) -> str:
    """Return what helps with a weight; empty where other trainers of such rows read it."""
    if view.name != "messages" or limits.ignored_weights == "last":
        return "--on-error skip drops such rows"
    if name == LOSS_MASK:
        return f"under the key `weight` it is read; --drop, as of messages.{name}, trains such turns in full"
    if name in TRAIN_DETAILS:
        return "-t MODEL --to tokens --tokenizer MODEL writes labels for trl-sft and axolotl; --for axolotl writes it"
    return "" if value in (0, 1) else "trainers read 0 and 1 only; --on-error skip drops such rows"


LOSS_MASK = "loss_mask"
"""A key of turns that no trainer reads."""
