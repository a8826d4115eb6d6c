"""The content-loss guard: check that each text of a conversation reaches the rendered text.

Templates silently drop what they do not expect: a system message, a role by another name, the tools. The guard renders
a conversation with private-use markers around each text and looks for them in the output; see `loss_finder`. Blank text
cannot be lost, and trimmed text is not lost. A text that is printed only in part is lost; see `cut_texts`.

The guard counts losses by design (`LossGuard.accepted`) and does not fail.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from ...json_columns import JSON, TEXT, decode_values, integers
from ...rendering import NO_PATH, ConversationBatch, Rendered
from ...schema import REASONING_FIELDS
from ...turn_columns import BoolArray, IntArray, any_turn, fields_of, lengths_of, offsets_of, to_bools
from ..masks.markers import CONTENT, THINK_TAG
from ..masks.masker import to_chats
from ..single import Chat, TemplateRenderer
from .cut_texts import is_escaped_in
from .loss_finder import Loss, LossFinder
from .message_shapes import has_media, message_shapes, role_hashes
from .trimmed_texts import TrimFinder

SCHEMAS = 256
"""How many different lists of tools a guard compares with their schemas."""
FIRST_ROWS = 200
"""The number of first rows of a task that are all checked."""
SUSPECTS = 16
"""How many messages of a shape are checked since their text is not found where it is expected."""
_THINK = re.compile(THINK_TAG)
_MARKED_OTHERWISE = rf"{THINK_TAG}|[\x{{F0000}}-\x{{10FFFF}}]"
"""Finds texts that markers treat piece by piece, or that are marked with those of another plane."""


class LossGuard:
    """Checks the conversations of one task: all of the first rows, and those of later ones that may lose something new.

    These have a message of a new shape, go a new way through the template (`Rendered.paths`), have the longest text of
    a role so far, or, where the way is not known, lack one of their texts.

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
        self._most: dict[int, int] = {}
        """The most bytes that a row of each path prints beside its texts."""
        self._suspected: Counter[int] = Counter()
        """How many messages of each shape were checked since their text was not found where it was expected."""
        self._lossy: set[int] = set()
        """The shapes of messages of which one has lost something."""
        self._finder, self._trimmed = LossFinder(renderer), TrimFinder(renderer)

    def check(self, chats: ConversationBatch, rendered: Rendered | None = None) -> Loss | None:
        """Return the first loss in a column that is not allowed, with its row; None if there is none.

        `rendered` is what the column became, if it could be rendered. Rows known to print every text are skipped.
        """
        unknown = self._unknown(chats, rendered)
        found = self._find(unknown.chats, np.flatnonzero(unknown.wanted).tolist())
        return next((replace(losses[0], row=int(unknown.rows[row])) for row, losses in found if losses), None)

    def check_rows(self, chats: ConversationBatch, rendered: Rendered | None = None) -> dict[Loss, list[int]]:
        """Return the first loss that is not allowed of each row that has one, with these rows; see `check`.

        All rows with a message of a shape that has lost something are checked; of those that must lose the same (see
        `_kinds`), the first.
        """
        unknown = self._unknown(chats, rendered)
        wanted, owners, shapes = unknown.wanted, unknown.owners, unknown.shapes
        if not (wanted.any() or self._lossy):
            return {}
        kinds, found = _kinds(unknown), dict[int, Loss | None]()
        while True:
            wanted[owners[np.isin(shapes, np.fromiter(self._lossy, np.uint64, len(self._lossy)))]] = True
            waiting = np.flatnonzero(wanted & ~np.isin(kinds, np.fromiter(found, np.int64, len(found))))
            if not len(waiting):
                break
            _, first = np.unique(kinds[waiting], return_index=True)
            for row, lost in self._find(unknown.chats, np.sort(waiting[first]).tolist()):
                found[int(kinds[row])] = lost[0] if lost else None
                for each in lost:
                    own = shapes[owners == row]
                    self._lossy.update(own.tolist() if each.message is None else [int(own[each.message])])
        losses = dict[Loss, list[int]]()
        for index in np.flatnonzero(wanted).tolist():
            if (loss := found[int(kinds[index])]) is not None:
                losses.setdefault(loss, []).append(int(unknown.rows[index]))
        return losses

    def _find(self, chats: ConversationBatch, rows: Sequence[int]) -> Iterator[tuple[int, list[Loss]]]:
        """Yield each of these rows with its losses that are not allowed."""
        some = to_chats(chats.take(pa.array(rows, pa.int64()))) if rows else []
        for row, chat in zip(rows, some, strict=True):
            yield row, [] if chat is None else self._refused_losses(chat)

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

    def _unknown(self, chats: ConversationBatch, rendered: Rendered | None) -> _Unknown:
        """Return the rows that may lose a text, and which of them to check; counts the roles that are trimmed."""
        self.accepted.update(self._trimmed.find(chats))  # nothing is skipped: rows of known programs are trimmed too
        unknown = _Unknown.of(chats, rendered)
        unknown.wanted[unknown.rows < self._rows_left] = True
        self._rows_left -= min(self._rows_left, len(chats))
        if len(unknown.rows):
            unique, first = np.unique(unknown.shapes, return_index=True)
            is_new = [shape not in self._seen for shape in unique.tolist()]
            self._seen.update(unique.tolist())
            unknown.wanted[unknown.owners[first[is_new]]] = True
            unknown.wanted[self._rows_of_longest(unknown.chats.messages, unknown.owners)] = True
            unknown.wanted[self._rows_without_text(unknown)] = True
        return unknown

    def _rows_without_text(self, unknown: _Unknown) -> list[int]:
        """Return rows of no known path without one of their texts, or with it before the text of an earlier turn.

        A template may change texts or their order: of the messages of one shape, only the first of these count.
        """
        no_path = self._may_be_cut(unknown)
        rows, found = np.flatnonzero(no_path), list[int]()
        messages = unknown.chats.messages.take(integers(rows))
        contents = fields_of(messages.flatten()).get(CONTENT)
        if unknown.texts is None or contents is None or contents.type not in (TEXT, JSON):
            return found
        texts = unknown.texts.take(integers(unknown.rows[rows])).to_pylist()
        turns = zip(decode_values(contents), unknown.shapes[no_path[unknown.owners]].tolist(), strict=True)
        for row, text, count in zip(rows.tolist(), texts, lengths_of(messages).tolist(), strict=True):
            position = 0
            for content, shape in islice(turns, count):
                core = content.strip() if isinstance(content, str) else ""
                end = _end_in(text, core, position)
                if end < 0 and self._suspected[shape] < SUSPECTS and not is_escaped_in(core, text):
                    self._suspected[shape] += 1
                    found.append(row)
                position = max(position, end)
        return found

    def _may_be_cut(self, unknown: _Unknown) -> BoolArray:
        """Return the rows of no known path, but those whose output has as much beside their texts as any of their way.

        Of a row of which a part is lost, less is printed.
        """
        if unknown.paths is None or unknown.texts is None:
            return np.ones(len(unknown.rows), np.bool_)
        more = pc.binary_length(unknown.texts).fill_null(0).to_numpy()[unknown.rows].astype(np.int64)
        for text in _texts(unknown.chats.messages.flatten()).values():
            sizes = pc.binary_length(text).fill_null(0).to_numpy()
            more -= np.bincount(unknown.owners, sizes, len(more)).astype(np.int64)
        found = unknown.paths < 0
        for path in np.unique(unknown.paths[unknown.paths < NO_PATH]).tolist():
            own = unknown.paths == path
            self._most[path] = max(self._most.get(path, 0), int(more[own].max()))
            found &= ~own | (more < self._most[path])
        return found

    def _rows_of_longest(self, messages: pa.ListArray, rows: IntArray) -> list[int]:
        """Return the rows with a text that is longer than any before of its role: a template may cut long texts."""
        turns = messages.flatten()
        index = turns.type.get_field_index("content")
        if index < 0 or turns.type[index].type not in (TEXT, JSON):
            return []
        lengths: npt.NDArray[np.int64] = pc.binary_length(turns.field(index)).fill_null(0).to_numpy()
        found, roles = list[int](), role_hashes(turns)
        for role in set(roles.tolist()):
            turn = int(np.where(roles == role, lengths, -1).argmax())
            if lengths[turn] > self._longest.get(role, 0):
                self._longest[role] = int(lengths[turn])
                found.append(int(rows[turn]))
        return found


class _Unknown(Struct):
    """Rows of a column that may lose a text, with the messages in them."""

    rows: IntArray
    """Their indices in the column."""
    chats: ConversationBatch
    texts: pa.StringArray | None
    """What the whole column became."""
    paths: IntArray | None
    groups: IntArray | None
    owners: IntArray
    """The index among these rows of the row of each message."""
    shapes: npt.NDArray[np.uint64]
    """The shape of each message, and of the path of its row through the template."""
    wanted: BoolArray
    """The rows to check."""

    @classmethod
    def of(cls, chats: ConversationBatch, rendered: Rendered | None) -> _Unknown:
        """Return the rows that are not known to print every text, or that have media; not those without a text."""
        is_unknown, texts, paths, groups = np.ones(len(chats), np.bool_), None, None, None
        if rendered is not None:
            texts, paths, groups = rendered.text, rendered.paths, rendered.groups
            if rendered.all_printed is not None:
                is_unknown = ~rendered.all_printed | has_media(chats.messages)
            is_unknown &= to_bools(texts.is_valid())
        rows = np.flatnonzero(is_unknown)
        if len(rows) < len(chats):
            chats = chats.take(integers(rows))
        paths, groups = (None if each is None else each[rows] for each in (paths, groups))
        owners, shapes = message_shapes(chats.messages, (chats.tools, chats.documents), paths)
        return cls(rows, chats, texts, paths, groups, owners, shapes, np.zeros(len(rows), np.bool_))


def _end_in(text: str, core: str, position: int) -> int:
    """Return where a text ends in another one, from a position on; its reasoning tags aside. -1 if it is not there."""
    whole = text.find(core, position)
    if whole >= 0:
        return whole + len(core)
    pieces = [piece for each in _THINK.split(core) if (piece := each.strip())]
    for piece in pieces:
        place = text.find(piece, position)
        if place < 0 or piece == core:
            return -1
        position = place + len(piece)
    return position if pieces else -1


def _kinds(unknown: _Unknown) -> IntArray:
    """Return a number for each row, the same only for rows that lose the same.

    These are rows of one group whose turns have the same shapes and the same blank texts, and that hold nothing else
    that decides about a loss.
    """
    chats, groups, kinds = unknown.chats, unknown.groups, np.arange(len(unknown.rows))
    if groups is None or not len(unknown.shapes):
        return kinds
    is_own = (groups < 0) | _holds_more_than_text(chats)
    if is_own.all():
        return kinds
    codes = np.unique(unknown.shapes, return_inverse=True)[1].astype(np.uint64)
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
