"""A check of the weights of turns, where spans or labels say only whether a text is trained."""

from __future__ import annotations

from collections.abc import Iterator

from ..json_columns import decode_values
from .column_view import ColumnView, Finding, Limits

WEIGHTS = ("weight", "loss_weight", "loss", "train")
"""Keys of turns that may hold a number."""


def lost_weights(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A weight that is neither 0 nor 1, with `--mask` or a view of spans; any but 1 for a trainer that reads none."""
    exact = (0, 1) if limits.masked else (1,)
    for name in WEIGHTS if limits.masked or limits.unweighted else ():
        values = view.values(name)
        for turn, value in enumerate(decode_values(values) if values.null_count < len(values) else ()):
            if not isinstance(value, (int, float)) or value in exact:
                continue
            if limits.masked or view.values("role")[turn].as_py() == "assistant":
                yield view.finding("msg.weight", turn, f"`{name}` is {value}, and the turn is trained in full")
