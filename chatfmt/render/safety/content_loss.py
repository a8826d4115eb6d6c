"""The content-loss guard: check that each text of a conversation reaches the rendered text.

Templates silently drop what they do not expect: a system message, a role by another name, the tools. The guard renders
a conversation with private-use markers around each text (see `markers`) and looks for them in the output. Blank text
cannot be lost, and trimmed text is not lost. A text that is printed only in part is lost; see `cut_texts`.

Reasoning is special: a template that prints the reasoning of the last answer but not that of earlier ones does so by
design. The guard counts these losses (`LossGuard.accepted`) and does not fail. A template that prints no reasoning at
all loses it.

Content parts without text (images) are checked by rendering the conversation without them; see `lost_parts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from ...errors import SKIP, Location, RenderError, TemplateError
from ...json_columns import JSON, TEXT, integers
from ...rendering import ConversationBatch
from ...schema import MEDIA, REASONING_FIELDS
from ...turn_columns import any_turn, contains, fields_of, lengths_of, offsets_of, to_bools
from ..masks.markers import (
    CALLS,
    CONTENT,
    REASONING,
    THINK_TAG,
    TOOLS,
    MarkedChat,
    MarkerPlan,
    TextSource,
    add_markers,
    keep_one_marker,
    remove_markers,
    unescape_markers,
)
from ..masks.masker import to_chats
from ..single import Chat, TemplateRenderer, Turns
from .cut_texts import CutTextFinder
from .lost_parts import PartPlace, lost_parts
from .schema_keywords import schema_keywords, without_keyword
from .trimmed_texts import TrimFinder

PLAN = MarkerPlan(tools=True, values=True)
SCHEMA_PLAN = MarkerPlan(others=False, calls=False, reasoning=False, schemas=True)
SCHEMAS = 256
"""How many different lists of tools a guard compares with their schemas."""
FIRST_ROWS = 200
"""The number of first rows of a task that are all checked; of later rows, only those with a new shape."""
_MARKED_OTHERWISE = rf"{THINK_TAG}|[\x{{F0000}}-\x{{10FFFF}}]"
"""Finds texts that markers treat piece by piece, or that are marked with those of another plane."""
_REASONING_CHATS: tuple[Turns, ...] = (
    [{"role": "user", "content": "x"}, {"role": "assistant", "reasoning_content": "x", "content": "x"}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<think>\nx\n</think>\n\nx"}],
)
SUPPORTED = {**{name: name for name in MEDIA}, CALLS: "calls", TOOLS: "tools", REASONING: "reasoning"}
"""The fields that not every template prints, with their words in `templates list --supports`."""
_FIELD_WORDS = {CONTENT: "the text", REASONING: "the reasoning", CALLS: "a tool call"}


class Loss(Struct, frozen=True):
    """A text of a conversation that is missing from its rendered text."""

    message: int | None
    """The index of the message; None for the tools and the documents."""
    role: str
    field: str
    """`content`, `reasoning`, `tool_calls`, `tools`, `documents`; for a part, a column of MEDIA or its own type."""
    by_design: bool = False
    """Whether it is the reasoning of an earlier answer, and the template prints that of the last answer."""
    row: int | None = None
    """The index of the row in its batch, if it is known."""
    part: str = ""
    """The type of the part of content that is lost."""
    refused: bool = False
    """Whether the template cannot print a message that has such a part."""
    cut: bool = False
    """Whether only a part of the text is missing."""
    structured: bool = False
    """Whether the text is in parts or in an object, which many templates do not read."""

    @property
    def name(self) -> str:
        """The value for `--allow-loss`: the role of a lost message, or the field."""
        return self.role if self.field == CONTENT else self.field

    def is_allowed(self, allow: Collection[str]) -> bool:
        """Return whether `allow` names the loss: its field, the role of a lost message, or `all`."""
        return not {self.field, self.name, "all"}.isdisjoint(allow)

    def error(self, template: str) -> TemplateError:
        """Return the error that ends the run; its location is the row in the batch and the message."""
        row = self.row_error(template)
        return TemplateError(row.message, hint=row.hint or SKIP, at=row.at, code=row.code)

    def row_error(self, template: str) -> RenderError:
        """Return the error of a row that is left out for the loss."""
        if self.part:
            what = f"the {self.part} part of role `{self.role}`"
        elif self.message is None:
            what = f"the {self.field} of the row"
        else:
            what = f"{_FIELD_WORDS[self.field]} of role `{self.role}`"
        accepts = f"`--allow-loss {self.name}` accepts the loss"
        if self.structured:
            accepts = f"the content is not plain text: write it as text in the source; {accepts} of all of it"
        hints = [accepts] if not self.refused else []
        if supported := SUPPORTED.get(self.field):
            hints = [
                f"`chatfmt templates list --supports {supported}` shows the templates that support {supported}",
                *hints,
            ]
        hint = "; ".join(hints)
        at = Location(row=self.row, message=self.message)
        what = f"a part of {what}" if self.cut else what
        return RenderError(f"template `{template}` loses {what}", hint=hint, at=at, code="template.loss")


class LossFinder:
    """Finds losses; tests once what the template does with reasoning."""

    def __init__(self, renderer: TemplateRenderer) -> None:
        self._renderer, self._cut_texts = renderer, CutTextFinder(renderer)

    @cached_property
    def _prints_last_only(self) -> frozenset[bool]:
        """The kinds of reasoning that are printed of the last answer and not of earlier ones.

        In a field of its own is False, inside the content is True.
        """
        return frozenset(
            bool(inline)
            for inline, turns in enumerate(_REASONING_CHATS)
            if self._missing(Chat(turns)) == [] and self._missing(Chat([*turns, *turns])) != []
        )

    def find(self, chat: Chat) -> list[Loss]:
        """Return the texts of a conversation that the template drops, in order; none if it refuses the conversation."""
        marked = self._marked(chat)
        missing = self._unprinted(*marked) if marked else []
        losing = {source.message for source in missing if source.message is not None}
        parts = lost_parts(self._renderer, chat, losing, self._prints_text)
        losses = [_lost_part(chat.messages, place) for place in parts]
        losses += [self._loss(chat.messages, source) for source in missing]
        cut = [source for source in self._cut_texts.find(*marked) if source not in missing] if marked else []
        losses += [replace(self._loss(chat.messages, source), cut=True, by_design=False) for source in cut]
        return list(dict.fromkeys(losses))

    def _prints_text(self, chat: Chat, messages: Collection[int]) -> bool:
        """Return whether the template accepts a conversation and prints all the text of some of its messages."""
        missing = self._missing(chat)
        return missing is not None and not any(source.message in messages for source in missing)

    def _missing(self, chat: Chat) -> list[TextSource] | None:
        """Return the texts that are not printed; None if the template refuses the conversation."""
        marked = self._marked(chat)
        return None if marked is None else self._unprinted(*marked)

    def _marked(self, chat: Chat) -> tuple[MarkedChat, str] | None:
        """Return the conversation with markers, and its text without; None if the template refuses it."""
        text = self._renderer.text_or_none(chat)
        marked = add_markers(chat, PLAN, partly=True)
        return None if text is None or marked is None else (marked, text)

    def _unprinted(self, marked: MarkedChat, text: str) -> list[TextSource]:
        rendered = self._renderer.text_or_none(marked.chat)
        if rendered is not None and (unmarked := remove_markers(rendered, marked)).text == text:
            return list(unmarked.lost)
        return [source for number, source in enumerate(marked.sources) if not self._is_printed(marked, number)]

    def _is_printed(self, marked: MarkedChat, number: int) -> bool:
        """Return whether a text is printed if it alone is marked, for templates whose output markers change."""
        text = self._renderer.text_or_none(keep_one_marker(marked, number))
        if text is None:
            return True
        text = unescape_markers(text, marked.base)
        return chr(marked.base + 2 * number) in text or chr(marked.base + 2 * number + 1) in text

    def lost_of_schemas(self, chat: Chat) -> list[str]:
        """Return which parts of the tools' schemas the template does not print, as in `enum of tools`."""
        marked, text = add_markers(chat, SCHEMA_PLAN), self._renderer.text_or_none(chat)
        rendered = self._renderer.text_or_none(marked.chat) if marked else None
        unmarked = remove_markers(rendered, marked) if marked and rendered is not None else None
        same = unmarked is not None and unmarked.text == text
        found = [source.field for source in unmarked.lost if source.message is None] if unmarked and same else []
        for keyword in schema_keywords(chat.tools) if text is not None else ():
            if self._renderer.text_or_none(replace(chat, tools=without_keyword(chat.tools, keyword))) == text:
                found.append(f"{keyword} of tools")
        return list(dict.fromkeys(found))

    def _loss(self, messages: Turns, source: TextSource) -> Loss:
        if source.message is None:
            return Loss(None, source.field, source.field)
        role = str(messages[source.message].get("role", ""))
        earlier = any(message.get("role") in ("user", "assistant") for message in messages[source.message + 1 :])
        by_design = source.field == REASONING and earlier and source.inline in self._prints_last_only
        content = messages[source.message].get("content") if source.field == CONTENT else None
        return Loss(source.message, role, source.field, by_design, structured=isinstance(content, (list, dict)))


_COLUMNS = {kind: name for name, kind in MEDIA.items()}


def _lost_part(messages: Turns, place: PartPlace) -> Loss:
    role = str(messages[place.message].get("role", ""))
    return Loss(place.message, role, _COLUMNS.get(place.type, place.type), part=place.type, refused=place.refused)


class LossGuard:
    """Checks the conversations of one task: all of the first rows, then one row of each new message shape, and those
    with the longest text of a role so far.

    The shape of a message (see `message_shapes`) is computed from the columns alone, so that a row of known shapes
    costs next to nothing.
    """

    def __init__(self, renderer: TemplateRenderer, allow: Collection[str] = (), first_rows: int = FIRST_ROWS) -> None:
        self.renderer, self.allow = renderer, frozenset(allow)
        self.accepted: Counter[str] = Counter()
        """The losses in checked rows that are allowed or by design, by role or field; and what is trimmed."""
        self.checked = 0
        self._rows_left = first_rows
        self._seen: set[int] = set()
        self._schemas: set[int] = set()
        self._longest: dict[int, int] = {}
        """The length of the longest text of each role, by the hash of the role."""
        self._lossy: set[int] = set()
        """The shapes of messages of which one has lost something."""
        self._finder, self._trimmed = LossFinder(renderer), TrimFinder(renderer)

    def check(self, chats: ConversationBatch, all_printed: npt.NDArray[np.bool_] | None = None) -> Loss | None:
        """Return the first loss in a column that is not allowed, with its row; None if there is none.

        `all_printed` says which rows are known to print every text (`Rendered.all_printed`); they are skipped.
        """
        self._note_trimmed(chats)
        rows = self._rows_to_check(chats, _unknown_rows(chats, all_printed))
        return next((replace(losses[0], row=row) for row, losses in self._find(chats, rows) if losses), None)

    def check_rows(
        self,
        chats: ConversationBatch,
        all_printed: npt.NDArray[np.bool_] | None = None,
        groups: npt.NDArray[np.int64] | None = None,
    ) -> dict[Loss, list[int]]:
        """Return the first loss that is not allowed of each row that has one, with these rows; see `check`.

        All rows with a message of a shape that has lost something are checked; of those that must lose the same (see
        `_kinds`; `groups` are `Rendered.groups`), the first.
        """
        self._note_trimmed(chats)
        unknown = _unknown_rows(chats, all_printed)
        wanted = np.array(self._rows_to_check(chats, unknown), np.int64)
        if not len(unknown) or not (len(wanted) or self._lossy):
            return {}
        rows, shapes = message_shapes(chats.messages, (chats.tools, chats.documents))
        kinds = _kinds(chats, shapes, groups)
        found = dict[int, Loss | None]()
        while True:
            lossy = rows[np.isin(shapes, np.fromiter(self._lossy, np.uint64, len(self._lossy)))]
            wanted = np.union1d(wanted, np.intersect1d(lossy, unknown))
            waiting = wanted[~np.isin(kinds[wanted], np.fromiter(found, np.int64, len(found)))]
            if not len(waiting):
                break
            _, first = np.unique(kinds[waiting], return_index=True)
            for row, lost in self._find(chats, np.sort(waiting[first]).tolist()):
                found[int(kinds[row])] = lost[0] if lost else None
                for each in lost:
                    own = shapes[rows == row]
                    self._lossy.update(own.tolist() if each.message is None else [int(own[each.message])])
        losses = dict[Loss, list[int]]()
        for row, kind in zip(wanted.tolist(), kinds[wanted].tolist(), strict=True):
            if (loss := found[kind]) is not None:
                losses.setdefault(loss, []).append(row)
        return losses

    def _find(self, chats: ConversationBatch, rows: Sequence[int]) -> Iterator[tuple[int, list[Loss]]]:
        """Yield each of these rows with its losses that are not allowed."""
        some = to_chats(chats.take(pa.array(rows, pa.int64()))) if rows else []
        for row, chat in zip(rows, some, strict=True):
            yield row, [] if chat is None else self._refused_losses(chat)

    def _note_trimmed(self, chats: ConversationBatch) -> None:
        """Count the roles whose texts the template trims; nothing is skipped, since replayed rows are trimmed too."""
        self.accepted.update(self._trimmed.find(chats))

    def _refused_losses(self, chat: Chat) -> list[Loss]:
        self.checked += 1
        losses = self._finder.find(chat)
        refused = [loss for loss in losses if not loss.by_design and not loss.is_allowed(self.allow)]
        if not refused:
            self.accepted.update(f"{loss.field} of earlier answers" if loss.by_design else loss.name for loss in losses)
            self._check_schemas(chat)
        return refused

    def _check_schemas(self, chat: Chat) -> None:
        """Count what the template leaves out of the schemas of tools; each list of tools is checked once."""
        key = hash(repr(chat.tools))
        if not chat.tools or key in self._schemas or len(self._schemas) >= SCHEMAS:
            return
        self._schemas.add(key)
        self.accepted.update(self._finder.lost_of_schemas(chat))

    def _rows_to_check(self, chats: ConversationBatch, unknown: npt.NDArray[np.int64]) -> list[int]:
        """Return the rows to check: of the `unknown` ones, those among the first rows, and the first of each shape."""
        count = min(self._rows_left, len(chats))
        self._rows_left -= count
        if not len(unknown):
            return []
        if len(unknown) < len(chats):
            chats = chats.take(integers(unknown))
        rows, shapes = message_shapes(chats.messages, (chats.tools, chats.documents))
        unique, first = np.unique(shapes, return_index=True)
        pairs = zip(unique.tolist(), first.tolist(), strict=True)
        new = {shape: int(unknown[rows[index]]) for shape, index in pairs if shape not in self._seen}
        self._seen.update(new)
        longest = [int(unknown[row]) for row in self._rows_of_longest(chats.messages, rows)]
        return sorted({*unknown[unknown < count].tolist(), *new.values(), *longest})

    def _rows_of_longest(self, messages: pa.ListArray, rows: npt.NDArray[np.int64]) -> list[int]:
        """Return the rows with a text that is longer than any before of its role: a template may cut long texts."""
        turns = messages.flatten()
        index = turns.type.get_field_index("content")
        if index < 0 or turns.type[index].type not in (TEXT, JSON):
            return []
        lengths: npt.NDArray[np.int64] = pc.binary_length(turns.field(index)).fill_null(0).to_numpy()
        found, roles = list[int](), _role_hashes(turns)
        for role in set(roles.tolist()):
            turn = int(np.where(roles == role, lengths, -1).argmax())
            if lengths[turn] > self._longest.get(role, 0):
                self._longest[role] = int(lengths[turn])
                found.append(int(rows[turn]))
        return found


def _unknown_rows(chats: ConversationBatch, all_printed: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
    """Return the rows that are not known to print every text, or that have media."""
    if all_printed is None:
        return np.arange(len(chats))
    return np.flatnonzero(~all_printed | has_media(chats.messages))


def _kinds(
    chats: ConversationBatch, shapes: npt.NDArray[np.uint64], groups: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """Return a number for each row, the same only for rows that lose the same.

    These are rows of one group whose turns have the same shapes and the same blank texts, and that hold nothing else
    that decides about a loss.
    """
    kinds = np.arange(len(chats))
    if groups is None or not len(shapes):
        return kinds
    is_own = (groups < 0) | _holds_more_than_text(chats)
    if is_own.all():
        return kinds
    codes = np.unique(shapes, return_inverse=True)[1].astype(np.uint64)
    for text in _texts(chats.messages.flatten()).values():
        codes = codes * np.uint64(2) + to_bools(pc.utf8_is_space(text))
    offsets = pa.py_buffer(offsets_of(lengths_of(chats.messages) * codes.itemsize))
    keys = pa.Array.from_buffers(pa.large_binary(), len(chats), [None, offsets, pa.py_buffer(codes)])
    alike = keys.dictionary_encode().indices.to_numpy().astype(np.int64)
    return np.where(is_own, kinds, len(kinds) + alike * (groups.max() + 1) + groups)


def _holds_more_than_text(chats: ConversationBatch) -> npt.NDArray[np.bool_]:
    """Return whether each conversation has more than roles and plain texts, or texts that are marked in another way.

    More are parts, calls, tools, variables and other keys. Marked in another way is reasoning that is in tags or in
    several fields of a turn, and text with private-use characters.
    """
    turns = chats.messages.flatten()
    texts, columns = _texts(turns), fields_of(turns)
    reasoning = [to_bools(text.is_valid()) for name, text in texts.items() if name != CONTENT]
    special = [np.sum(reasoning, axis=0) > 1] if reasoning else []
    special += [to_bools(columns[name].is_valid()) for name in columns.keys() - {"role", *texts}]
    special += [to_bools(pc.match_substring_regex(text, _MARKED_OTHERWISE)) for text in texts.values()]
    found = [any_turn(chats.messages, turns_found) for turns_found in special]
    found += [to_bools(column.is_valid()) for column in chats.others if column is not None]
    return np.asarray(np.logical_or.reduce(found, initial=False), np.bool_)


def _texts(turns: pa.StructArray) -> dict[str, pa.StringArray]:
    """Return the content and the reasoning of turns, by field, where they are plain text."""
    columns = fields_of(turns).items()
    return {name: column for name, column in columns if name in (CONTENT, *REASONING_FIELDS) and column.type == TEXT}


def has_media(messages: pa.ListArray) -> npt.NDArray[np.bool_]:
    """Return whether each conversation has parts of media, which no text of the conversation stands for."""
    marked = media_kinds(messages.flatten()) > 0
    return any_turn(messages, marked) if marked.any() else np.zeros(len(messages), np.bool_)


def message_shapes(
    messages: pa.ListArray, extras: Sequence[pa.Array | None] = ()
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Return, for each message of a column, the index of its row and a hash of its shape.

    Equal hashes mean the same role, fields, emptiness, reasoning tags and kinds of media, the same of the message
    before, the same position (first, last), the same roles of the first and the last message, that a user message
    follows in both or in none, and the same presence of each of `extras`.
    """
    lengths = messages.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    turns = messages.flatten()
    fills = [_named_fill(field.name, turns.field(index)) for index, field in enumerate(turns.type)]
    roles, numbers = _role_hashes(turns), np.arange(len(rows))
    codes = _mix(roles, [_think_tags(turns), media_kinds(turns), *fills])
    first = (np.cumsum(lengths) - lengths)[rows]
    last, last_user = first + lengths[rows] - 1, np.full(len(lengths), -1)
    users = np.flatnonzero(roles == crc32(b"user"))
    last_user[rows[users]] = users
    before = np.where(numbers == first, np.uint64(0), np.roll(codes, 1))
    place = [numbers == last, roles[first], roles[last], last_user[rows] > numbers]
    present = [_fill(column)[rows] for column in extras if column is not None]
    return rows, _mix(codes, [before, *(each.astype(np.uint64) for each in place), *present])


def _think_tags(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """Return bits for turns with reasoning tags in their content, which templates cut out; also for blanks by them."""
    index = turns.type.get_field_index("content")
    bits = np.zeros(len(turns), np.uint64)
    if index < 0 or turns.type[index].type not in (TEXT, JSON):
        return bits
    column = turns.field(index).cast(pa.large_string())
    for number, pattern in enumerate((THINK_TAG, _BLANK_REASONING, _BLANK_ANSWER)):
        bits |= to_bools(pc.match_substring_regex(column, pattern).fill_null(False)) * np.uint64(1 << number)
        if not bits.any():
            break
    return bits


_BLANK = r"(?:[\s\p{Z}\x0b\x1c-\x1f\x{85}]|\\[nrtf]|\\u00(?:0b|1[c-f]))*"
"""A regular expression of RE2 for what `str.isspace` calls blanks, also with the escapes of JSON."""
_BLANK_REASONING, _BLANK_ANSWER = rf"<think(?:ing)?>{_BLANK}</think", rf"</think(?:ing)?>{_BLANK}\"?$"
_BLANK_TEXT = rf'(?:^|:)"{_BLANK}"'
"""A blank text in JSON."""


def media_kinds(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """Return, for each turn, which kinds of media its content parts have, as bits."""
    index = turns.type.get_field_index("content")
    bits = np.zeros(len(turns), np.uint64)
    if index < 0 or turns.type[index].type != JSON:
        return bits
    for number, kind in enumerate(MEDIA.values()):
        found = contains(turns.field(index), f'"type":"{kind}"').fill_null(False)
        bits |= found.cast(pa.uint64()).to_numpy() << np.uint64(number)
    return bits


def _role_hashes(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """Return a hash of the role of each turn, the same in every batch."""
    index = turns.type.get_field_index("role")
    if index < 0:
        return np.zeros(len(turns), np.uint64)
    encoded = turns.field(index).cast(pa.string()).dictionary_encode()
    numbers = np.array([*(crc32(name.encode()) for name in encoded.dictionary.to_pylist()), 0], np.uint64)
    indices: npt.NDArray[np.int64] = encoded.indices.fill_null(len(numbers) - 1).to_numpy(zero_copy_only=False)
    return numbers[indices]


def _named_fill(name: str, column: pa.Array) -> npt.NDArray[np.uint64]:
    """Return `_fill` with the field's name hashed in: batches of one file may have different fields."""
    return _fill(column) + np.uint64(crc32(name.encode()) << 6)


def _fill(column: pa.Array) -> npt.NDArray[np.uint64]:
    """Return 0 where a field is absent, 1 where it is blank, else 2; bits of JSON say that it is a list or an object.

    Other bits say that there is a blank text in it, and that there are several parts or calls.
    """
    filled = to_bools(column.is_valid()) * np.uint64(2)
    if pa.types.is_string(column.type):
        filled[to_bools(pc.or_(pc.utf8_is_space(column), pc.equal(column, "")).fill_null(False))] = 1
    elif column.type == JSON:
        filled[pc.binary_length(column).fill_null(3).to_numpy(zero_copy_only=False) <= 2] = 1
        for pattern, more in (("^\\[", 4), (_BLANK_TEXT, 8), ("^{", 16), (r"\},\{", 32)):
            filled += to_bools(pc.match_substring_regex(column, pattern).fill_null(False)) * np.uint64(more)
    return filled


def _mix(codes: npt.NDArray[np.uint64], others: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """Hash other columns of numbers into the codes, to 64 bits; overflow is intended."""
    with np.errstate(over="ignore"):
        for other in others:
            codes = (codes ^ (codes >> np.uint64(31)) ^ other.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return codes
