"""Rows of more tokens than a limit, and conversations that are split so as to fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from ..errors import CheckError, Location
from ..schema import Turns

_SYSTEM = ("system", "developer")


def over_length(counts: pa.Array, limit: int) -> list[CheckError]:
    """Return an error for each row with more than `limit` tokens; null counts are skipped."""
    hint = "`--over-length drop` drops such rows, `--over-length split-turns` splits them"
    return [
        CheckError(f"{count} tokens, over the limit of {limit}", hint=hint, at=Location(row=row), code="token.length")
        for row, count in enumerate(counts.to_pylist())
        if count is not None and count > limit
    ]


def split_turns(messages: Turns, fits: Callable[[Turns], bool]) -> list[list[Mapping[str, Any]]] | None:
    """Split a conversation before user turns into the fewest that fit; None if an exchange alone is too long.

    Each starts with the system and developer turns of the whole, and no exchange is split: the user turns, the answer,
    and the tool calls and results between.
    """
    head = list(_head(messages))
    pieces: list[list[Mapping[str, Any]]] = []
    current: list[Mapping[str, Any]] = []
    for exchange in _exchanges(messages[len(head) :]):
        if current and fits([*head, *current, *exchange]):
            current = [*current, *exchange]
            continue
        pieces += [[*head, *current]] if current else []
        if not fits([*head, *exchange]):
            return None
        current = exchange
    return [*pieces, [*head, *current]] if current or head else []


def _head(messages: Turns) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if message.get("role") not in _SYSTEM:
            return
        yield message


def _exchanges(messages: Turns) -> list[list[Mapping[str, Any]]]:
    """Group turns, each group but the first starting with a user turn."""
    groups: list[list[Mapping[str, Any]]] = []
    before = None
    for message in messages:
        if not groups or (message.get("role") == "user" and before != "user"):
            groups.append([])
        groups[-1].append(message)
        before = message.get("role")
    return groups
