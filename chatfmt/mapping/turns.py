"""Make messages of mapped fields: zip parallel lists into turns, split transcripts at markers."""

from __future__ import annotations

import re
from collections import abc
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import DialectError, map_rows, refuse_rows
from ..json_columns import TEXT, decode_or_none, encode_conversations
from ..turn_columns import lengths_of, to_lists
from .plan import PREAMBLE

Markers = abc.Sequence[tuple[str, str]]


def zip_lists(lists: abc.Mapping[str, pa.Array]) -> pa.ListArray:
    """Make a messages column of parallel lists, the roles in the order of `lists`; null where all lists are.

        user: ["q1", "q2"]   assistant: ["a1", "a2"]   →   user q1, assistant a1, user q2, assistant a2

    The lists of a row have the same length, or the first ones have one item more (a last turn without an answer).
    Raises DialectError `msg.order` otherwise.
    """
    if not all(pa.types.is_list(column.type) and column.type.value_type == TEXT for column in lists.values()):
        return _zip_values(lists)
    lengths = np.stack([lengths_of(column) for column in lists.values()])
    _check_lengths(tuple(lists), lengths)
    rows = np.concatenate([np.repeat(np.arange(lengths.shape[1]), each) for each in lengths])
    items = np.concatenate([np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each) for each in lengths])
    which = np.repeat(np.arange(len(lengths)), lengths.sum(axis=1))
    order = np.lexsort((which, items, rows))
    content = pa.concat_arrays([column.flatten() for column in lists.values()]).take(pa.array(order))
    role = pa.array(list(lists), TEXT).take(pa.array(which[order]))
    turns = pa.StructArray.from_arrays([role, content], names=["role", "content"])
    return to_lists(turns, lengths.sum(axis=0), _all_null(lists))


def _all_null(lists: abc.Mapping[str, pa.Array]) -> pa.Array:
    nulls = np.stack([column.is_null().to_numpy(zero_copy_only=False) for column in lists.values()])
    return pa.array(nulls.all(axis=0))


def _check_lengths(names: tuple[str, ...], lengths: np.ndarray[Any, Any]) -> None:
    wrong = (np.diff(lengths, axis=0) > 0).any(axis=0) | (lengths[0] - lengths[-1] > 1)

    def error(row: int) -> DialectError:
        counts = ", ".join(f"{length} for `{name}`" for name, length in zip(names, lengths[:, row], strict=True))
        hint = "every user turn but the last needs an assistant turn"
        return DialectError(f"the lists of turns do not pair up: {counts}", code="msg.order", hint=hint)

    refuse_rows(np.flatnonzero(wrong).tolist(), error)


def _zip_values(lists: abc.Mapping[str, pa.Array]) -> pa.ListArray:
    columns = {role: decode_or_none(column) for role, column in lists.items()}
    for role, values in columns.items():
        _check_lists(role, values)
    lengths = [[len(value or ()) for value in values] for values in columns.values()]
    _check_lengths(tuple(lists), np.array(lengths, np.int64).reshape(len(lists), -1))
    return encode_conversations([_zip_row(columns, row) for row in range(len(lengths[0]))])


def _check_lists(role: str, values: abc.Sequence[Any]) -> None:
    wrong = [row for row, value in enumerate(values) if value is not None and not isinstance(value, list)]
    refuse_rows(wrong, lambda row: DialectError(f"the value mapped to `{role}` is not a list", code="col.type"))


def _zip_row(columns: abc.Mapping[str, list[Any]], row: int) -> list[dict[str, Any]] | None:
    sides = [(role, values[row]) for role, values in columns.items() if values[row] is not None]
    longest = max((len(side) for _, side in sides), default=0)
    turns = [
        {"role": role, "content": side[index]} for index in range(longest) for role, side in sides if index < len(side)
    ]
    return turns if sides else None


def split_transcripts(column: pa.Array, markers: Markers) -> pa.ListArray:
    """Make a messages column of transcripts, split where a marker starts a line; null for null.

        "Human: hi\\n\\nAssistant: hello"   with `Human:=user`, `Assistant:=assistant`   →   user hi, assistant hello

    A marker includes the line break before it, one blank line before that, and one space or line break after it; where
    a marker itself begins or ends with white space, it includes that and no more. Every other character is kept. Text
    before the first marker needs the marker `^`, which gives it a role. Each text of a list is one turn.
    Raises DialectError `col.type` for a value that is not text, `msg.role` for text without or before a marker.
    """
    preamble = dict(markers).get(PREAMBLE)
    roles = {marker: role for marker, role in markers if marker != PREAMBLE}
    pattern = marker_pattern(list(roles))

    def split(text: Any) -> list[dict[str, Any]] | None:
        if isinstance(text, list):
            return [turn for item in text for turn in _split(item, pattern, roles, preamble, most=1)]
        return None if text is None else _split(text, pattern, roles, preamble)

    return encode_conversations(map_rows(split, decode_or_none(column)))


def marker_pattern(markers: abc.Sequence[str]) -> re.Pattern[str]:
    """A pattern for each marker with the white space that it includes; the longest marker wins."""
    ordered = sorted(markers, key=len, reverse=True)
    after = r"(?: |\r?\n(?!(?:\r?\n)?(?:" + "|".join(map(re.escape, ordered)) + ")))?"
    return re.compile(
        "|".join(
            f"{_before(marker)}({re.escape(marker)}){'' if marker[-1:].isspace() else after}" for marker in ordered
        )
    )


def _before(marker: str) -> str:
    return "" if marker[:1] in ("\n", "\r") else r"(?:\A(?:\r?\n){0,2}|(?:\r?\n){1,2})"


def _split(
    text: Any, pattern: re.Pattern[str], roles: dict[str, str], preamble: str | None, most: int | None = None
) -> list[dict[str, Any]]:
    if not isinstance(text, str):
        raise DialectError("the transcript is not text", code="col.type")
    found = list(islice(pattern.finditer(text), most))
    if not found and preamble is None:
        raise _unmarked("no marker starts a line of the transcript", "--marker 'Human:=user'")
    first = found[0].start() if found else len(text)
    if first and preamble is None:
        raise _unmarked("the transcript has text before its first marker", "--marker '^=system' gives it a role")
    ends = [match.start() for match in found[1:]] + [len(text)]
    before = [{"role": preamble, "content": text[:first]}] if first else []
    return before + [
        {"role": roles[match[match.lastindex or 0]], "content": text[match.end() : end]}
        for match, end in zip(found, ends, strict=False)
    ]


def _unmarked(message: str, hint: str) -> DialectError:
    return DialectError(message, hint=hint, code="msg.role")
