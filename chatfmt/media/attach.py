"""Give each medium of a conversation a content part, and move media inside parts to the columns of media."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ..errors import DialectError, RowError, located, raise_first
from ..json_columns import JSON, decode_conversations, with_column
from ..schema import CONVERSATION_COLUMNS, MEDIA, Conversation, Turn, Turns
from ..turn_columns import BoolArray, any_turn, field, lengths_of, replace_rows, to_bools
from .columns import ColumnIndex, media_lists, with_media
from .parts import KINDS, PART, MediaPart, placeholders, read_part, split_text

COLUMN = {kind: name for name, kind in MEDIA.items()}
NUMBER = "#medium"
"""The key of a part with the index of its medium in the row's column, until `follow` has used it."""


def attach(
    batch: pa.RecordBatch, read: Sequence[str], made: Sequence[str], *, numbered: bool
) -> tuple[pa.RecordBatch, Counter[str]]:
    """Return the batch with parts and columns in the form of TRL, and how many rows were changed in which way.

    `read` are the columns of media that the dialect found, `made` those to make, also for rows without media. For each
    kind of medium, a row with media in its column has as many parts without a medium, or as many placeholders
    (`<image>`) in its text, which become parts. Without either, the media go before the first text of the user, as
    TRL's `prepare_multimodal_messages` puts images. That function would do so beside parts in other turns too, so in a
    row with media all texts of the user become parts. In a row without media a placeholder is ordinary text.

    Raises DialectError `media.count` where the numbers disagree, and `media.missing` for a part without a medium.
    """
    raw = {name: media_lists(batch.column(name)) for name in read if name in batch.schema.names}
    rows = _rows_with_media(batch, raw)
    if not (raw or made or rows.any()):
        return batch, Counter()
    names = [name for name in CONVERSATION_COLUMNS if name in batch.schema.names]
    chosen = pa.array(np.flatnonzero(rows))
    conversations = {name: decode_conversations(batch.column(name).take(chosen)) for name in names}
    lengths = {MEDIA[name]: lengths_of(lists)[rows] for name, lists in raw.items()}
    changes: Counter[str] = Counter()
    edited: list[_Row] = []
    errors: list[RowError] = []
    for index, row in enumerate(np.flatnonzero(rows).tolist()):
        turns = {name: found for name in names if (found := conversations[name][index]) is not None}
        edited.append(_Row(turns, {kind: int(counts[index]) for kind, counts in lengths.items()}))
        with collected(errors), located(row=row):
            edited[-1].attach(numbered=numbered)
        changes.update(edited[-1].changes)
    raise_first(errors)
    batch = _with_edits(batch, names, rows, edited, raw)
    for name in made:
        if name not in batch.schema.names:
            batch = with_column(batch, name, with_media(None, np.zeros(len(batch), np.bool_), ()))
    return batch, changes


@contextmanager
def collected(errors: list[RowError]) -> Iterator[None]:
    """Add a RowError that is raised inside to `errors`."""
    try:
        yield
    except RowError as error:
        errors.append(error)


def _rows_with_media(batch: pa.RecordBatch, raw: Mapping[str, pa.ListArray]) -> BoolArray:
    """Mark the rows with media in their columns, or with parts of media in their turns."""
    rows = np.zeros(len(batch), np.bool_)
    for lists in raw.values():
        rows |= lengths_of(lists) > 0
    for name in CONVERSATION_COLUMNS:
        column = batch.column(name) if name in batch.schema.names else None
        content = None if column is None else field(column.flatten(), "content")
        if column is not None and content is not None and content.type == JSON:
            found = pc.match_substring_regex(content, PART).fill_null(False)
            rows |= any_turn(column, to_bools(found))
    return rows


def _with_edits(
    batch: pa.RecordBatch,
    names: Sequence[str],
    rows: BoolArray,
    edited: Sequence[_Row],
    raw: Mapping[str, pa.ListArray],
) -> pa.RecordBatch:
    """Return the batch with the conversations and media of the marked rows replaced."""
    for name in names if edited else ():
        column = batch.column(name)
        own = rows & to_bools(column.is_valid())
        column = replace_rows(column, own, [row.turns[name] for row in edited if name in row.turns])
        batch = with_column(batch, name, column)
    for kind, name in COLUMN.items():
        media = [row.media.get(kind, []) for row in edited]
        if name in raw or any(media):
            batch = with_column(batch, name, with_media(raw.get(name), rows, media))
    return batch


class _Row:
    """The conversations of one row and its media by kind: indices into its column, or media that parts held."""

    def __init__(self, turns: dict[str, Conversation], counts: Mapping[str, int]) -> None:
        self.turns, self.counts = turns, counts
        self.media: dict[str, list[Any]] = {}
        self.changes: Counter[str] = Counter()

    def attach(self, *, numbered: bool) -> None:
        """Edit each conversation: the prompt with each of its answers, or a whole one."""
        prompt = self.turns.get("prompt", [])
        for name in [name for name in self.turns if name != "prompt"] or ["prompt"]:
            answer = self.turns[name] if name != "prompt" else []
            editor = _Editor([*prompt, *answer], self.counts, numbered=numbered)
            made = editor.edit()
            if "prompt" in self.turns:
                self.turns["prompt"] = made[: len(prompt)]
            if name != "prompt":
                self.turns[name] = made[len(prompt) :]
            self.changes |= editor.changes
            for kind, media in editor.media.items():
                self._add(kind, media)

    def _add(self, kind: str, media: list[Any]) -> None:
        """Add the media of a prompt with one answer; the answers of a pair share theirs."""
        known = self.media.setdefault(kind, media)
        shorter, longer = sorted((known, media), key=len)
        if longer[: len(shorter)] != shorter:
            raise DialectError(f"the answers of the row have different {COLUMN[kind]}", code="media.count")
        self.media[kind] = longer


class _Editor:
    """Edits one conversation: placeholders become parts, and media move out of parts."""

    def __init__(self, turns: Turns, counts: Mapping[str, int], *, numbered: bool) -> None:
        self.turns, self.numbered = turns, numbered
        self.media: dict[str, list[Any]] = {}
        self.changes: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        """The number of media taken from each column so far."""
        found = [medium for part in parts_of(turns) if (medium := read_part(part)) is not None]
        kinds = {part.kind for part in found} | {kind for kind, count in counts.items() if count}
        self.places = {kind: find_places(turns, found, kind, counts.get(kind, 0)) for kind in KINDS if kind in kinds}
        self.first = next((index for index, turn in enumerate(turns) if is_text_of_user(turn)), None)

    def edit(self) -> Conversation:
        """Return the conversation with one part for each medium."""
        return [self._turn(index, turn) for index, turn in enumerate(self.turns)]

    def _turn(self, index: int, turn: Mapping[str, Any]) -> Turn:
        content = turn.get("content")
        kinds = [kind for kind, places in self.places.items() if index in places.in_text]
        if isinstance(content, list):
            parts = [made for part in content for made in self._part(part, kinds)]
            return {**turn, "content": parts}
        is_users = bool(self.places) and turn.get("role") == "user"
        if isinstance(content, str) and (is_users or any(placeholders(content, kind) for kind in kinds)):
            before = [part for kind in self.places for part in self._before_text(kind, index)]
            texts = [made for part in split_text(content, kinds) for made in self._part(part, ())]
            return {**turn, "content": [*before, *texts]}
        return dict(turn)

    def _before_text(self, kind: str, index: int) -> list[Turn]:
        """Return the parts of media that no part and no placeholder has a place for."""
        if index != self.first or not self.places[kind].unplaced:
            return []
        self.changes[f"media.{COLUMN[kind]}_before_text"] = 1
        return [self._placed(kind, None, {}) for _ in range(self.places[kind].unplaced)]

    def _part(self, part: Any, kinds: Collection[str]) -> list[Any]:
        """Return a part as it is, a part of media without its medium, or the parts that a text has placeholders for."""
        if (medium := read_part(part)) is not None:
            return [self._placed(medium.kind, medium.medium, medium.rest)]
        if not kinds or not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            return [part]
        split = split_text(part["text"], kinds)
        return [{**part, **piece} if "text" in piece else self._placed(piece["type"], None, {}) for piece in split] or [
            part
        ]

    def _placed(self, kind: str, medium: Any, rest: Mapping[str, Any]) -> Turn:
        """Return the part for a medium, or for the next one of the column, and note the medium."""
        if medium is not None and self.places[kind].column_wins:
            self.changes[f"media.{COLUMN[kind]}_replaced"] = 1
        if medium is None or self.places[kind].column_wins:
            medium = ColumnIndex(self.taken[kind])
            self.taken[kind] += 1
        self.media.setdefault(kind, []).append(medium)
        number = {NUMBER: len(self.media[kind]) - 1} if self.numbered else {}
        return {"type": kind, **number, **rest}


class Places(Struct, frozen=True):
    """The places in a conversation for the media of a column: parts without a medium, and others."""

    in_text: Collection[int] = ()
    """The turns whose placeholders stand for media."""
    unplaced: int = 0
    """The number of media to put before the first text of the user."""
    column_wins: bool = False
    """Whether the parts have media too, which those of the column replace."""


def find_places(turns: Turns, parts: Sequence[MediaPart], kind: str, count: int) -> Places:
    """Return the places of `count` media of a row's column; `parts` are those of media in the turns.

    Placeholders in answers count only if those in the other turns are too few. Raises DialectError `media.count` or
    `media.missing`.
    """
    found = [part for part in parts if part.kind == kind]
    empty = sum(part.medium is None for part in found)
    tags = [placeholders(turn.get("content"), kind) for turn in turns] if count else []
    asked = [index for index, turn in enumerate(turns) if count and turn.get("role") != "assistant"]
    for in_text in ((), asked, range(len(tags))):
        if empty + sum(tags[index] for index in in_text) == count:
            return Places(in_text)
    if not empty and len(found) == count:
        return Places(column_wins=True)
    if not found and not sum(tags) and any(map(is_text_of_user, turns)):
        return Places(unplaced=count)
    raise wrong_count(kind, count, empty, sum(tags))


def parts_of(turns: Turns) -> Iterator[Any]:
    """Yield the content parts of the turns."""
    for turn in turns:
        if isinstance(turn.get("content"), list):
            yield from turn["content"]


def is_text_of_user(turn: Mapping[str, Any]) -> bool:
    """Return whether a turn is text of the user, before which TRL puts images that have no place."""
    return turn.get("role") == "user" and isinstance(turn.get("content"), str)


def wrong_count(kind: str, count: int, parts: int, tags: int) -> DialectError:
    """Return the error for a row with more or fewer places than media."""
    places = parts + tags
    if not count:
        return DialectError(
            f"the conversation has {counted(parts, f'{kind} part')}, and the row has no {kind}",
            hint=f"--map {COLUMN[kind]}=COLUMN names the column, --on-error skip drops such rows",
            code="media.missing",
        )
    return DialectError(
        f"the conversation has places for {counted(places, kind)}, and the row has {count}",
        hint="--on-error skip drops such rows",
        code="media.count",
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
