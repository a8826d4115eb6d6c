"""Explain a conversation: for each message what of the row it is made of, and the transforms that changed it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import pyarrow as pa
from msgspec import Struct

from ... import transforms
from ...dialects.chat.turns import ROLE_KEYS
from ...dialects.kit.literals import read_literal
from ...json_columns import decode_conversations, dumps, message_columns, to_display
from ...schema import REASONING_FIELDS, Turn
from ..conversion.stages import Conversion

_SAID = ("content", "tool_calls", *REASONING_FIELDS)
_SHORT = 3
"""Shorter texts are in too many others to say where a message comes from."""


class Leaf(Struct, frozen=True):
    """A text in a row: its path, and the role that is named beside it, if any."""

    path: str
    text: str
    role: str = ""


class Origin(Struct, frozen=True):
    """The origin of one message; `column` is that of the conversation, such as `messages` or `chosen`."""

    column: str
    message: int
    role: str
    made_of: str
    named: str = ""
    """The role as the row names it, if it is another."""
    changed_by: tuple[str, ...] = ()


Placed = tuple[str, Turn]
"""A message and the column of the conversation that it is in."""


def explain(conversion: Conversion, row: pa.RecordBatch, file: str, record: Mapping[str, Any]) -> list[Origin]:
    """Return the origin of each message of a row that converts; its record tells where texts are."""
    batch = conversion.read(row, file)
    before = list(_messages(batch))
    changes: list[tuple[str, ...]] = [()] * len(before)
    read = list(before)
    for name, value in _settings(conversion):
        batch, _ = transforms.TRANSFORMS[name].function(batch, value)
        after = list(_messages(batch))
        changes, read = _follow(name, before, after, changes, read)
        before = after
    leaves = list(_leaves(record, "", ""))
    counts: dict[str, int] = {}
    known: dict[str, tuple[str, str]] = {}
    origins = []
    for (column, message), original, changed in zip(before, read, changes, strict=True):
        counts[column] = counts.get(column, -1) + 1
        role = str(message.get("role"))
        if (key := dumps(original[1])) not in known:
            known[key] = _made_of(original[1], leaves) if original[1] else ("", "")
        made_of, named = known[key]
        origins.append(Origin(column, counts[column], role, made_of, named if named not in ("", role) else "", changed))
    return origins


def _settings(conversion: Conversion) -> Iterator[tuple[str, Any]]:
    """Yield the transforms of the job that do something, in the order in which they apply."""
    given = conversion.job.transforms
    for name in transforms.TRANSFORMS:
        if name in given and not transforms.is_off(name, given[name]):
            yield name, given[name]


def _messages(batch: pa.RecordBatch) -> Iterator[Placed]:
    for name, column in message_columns(batch):
        for turns in decode_conversations(column):
            yield from ((name, turn) for turn in turns or ())


def _follow(
    name: str, before: Sequence[Placed], after: Sequence[Placed], changes: Sequence[tuple[str, ...]],
    read: Sequence[Placed],
) -> tuple[list[tuple[str, ...]], list[Placed]]:  # fmt: skip
    """Return the changes and the original of each message after a transform: those of the message it was before."""
    old_keys, new_keys = ([column + dumps(turn) for column, turn in side] for side in (before, after))
    made, originals = [], []
    for tag, first, last, start, stop in difflib.SequenceMatcher(
        None, old_keys, new_keys, autojunk=False
    ).get_opcodes():
        for place in range(start, stop):
            old = first + min(place - start, last - first - 1) if last > first else None
            if old is None and new_keys[place] in old_keys:  # a copy, as of `split_turns`
                old = old_keys.index(new_keys[place])
            made.append((*(() if old is None else changes[old]), *([] if tag == "equal" else [name])))
            originals.append(("", {}) if old is None else read[old])
    return made, originals


def _leaves(value: Any, path: str, role: str) -> Iterator[Leaf]:
    """Yield the texts in a value; a text that holds a list or an object has leaves too."""
    inner = read_literal(value)
    if isinstance(value, str) and value:
        yield Leaf(path, value, role)
    if isinstance(inner, Mapping):
        named = next((inner[key] for key in inner if key in ROLE_KEYS and isinstance(inner[key], str)), "")
        for key, item in inner.items():
            if not (key in ROLE_KEYS and named):
                yield from _leaves(item, f"{path}.{key}" if path else str(key), named)
    elif isinstance(inner, list):
        for index, item in enumerate(inner):
            yield from _leaves(item, f"{path}[{index}]", role)
    elif inner is not None and not isinstance(value, str):
        yield Leaf(path, str(inner), role)


def _made_of(message: Mapping[str, Any], leaves: list[Leaf]) -> tuple[str, str]:
    """Return where the texts of a message are in the row, and the role named there."""
    found: list[Leaf] = []
    places: list[str] = []
    for key, value in message.items():
        if key not in _SAID or not (texts := _texts(key, to_display(value))):
            continue
        some = [(prefix, leaf) for text in texts for prefix, leaf in _find(text, leaves)]
        found += [leaf for _, leaf in some]
        paths = list(dict.fromkeys(leaf.path for _, leaf in some))
        within = _common(paths) if len(texts) > 1 else ""
        places.append(within or " + ".join(paths))
        if some and some[0][0] and not within:
            places[-1] = some[0][0] + places[-1]
    return ", ".join(filter(None, dict.fromkeys(places))), next((leaf.role for leaf in found if leaf.role), "")


def _texts(key: str, value: Any) -> list[str]:
    """Return the texts of a value that are long enough to be found, at most a few."""
    leaves = [Leaf(key, value)] if isinstance(value, str) else _leaves(value, key, "")
    texts = [leaf.text for leaf in leaves if not leaf.path.endswith((".type", ".id"))]
    return [text for text in texts if len(text.strip()) >= _SHORT][:8] or [text for text in texts if text]


def _find(text: str, leaves: list[Leaf]) -> list[tuple[str, Leaf]]:
    """Return the leaf that is a text, else one that holds it, else those that are in it, and how to say so."""
    same = next((leaf for leaf in leaves if leaf.text == text), None)
    if same is not None:
        leaves.remove(same)  # a text that is repeated is made of the next one
        return [("", same)]
    around = next((leaf for leaf in leaves if len(text) >= _SHORT and text in leaf.text), None)
    if around is not None:
        return [("part of ", around)]
    return [("", leaf) for leaf in leaves if len(leaf.text.strip()) >= _SHORT and leaf.text in text][:3]


def _common(paths: Sequence[str]) -> str:
    """Return the longest path that all paths begin with."""
    steps = [path.split(".") for path in paths]
    shared = [step[0] for step in takewhile(lambda step: len(set(step)) == 1, zip(*steps, strict=False))]
    return ".".join(shared)
