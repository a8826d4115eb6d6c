"""Account for the leaves of source batches: each is used, kept, dropped by the user, or left behind.

A column is used if a part, a mapping or an expression reads it. A leaf inside a used column is used if the
conversations hold its values (see `trace`) and the template prints the key of the turn that it is in. This is found out
from the sample, and again when a column or a key of turns has its first value in a later batch. Any other batch costs a
look at the names of its columns.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, takewhile
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field
from msgspec.structs import replace

from ...dialects.chat.turns import ROLE_KEYS
from ...dialects.kit.columns import records_of
from ...dialects.kit.output import is_filled
from ...dialects.kit.roles import role_of
from ...dialects.kit.tool_calls import ARGUMENTS, NAMES
from ...json_columns import is_turns
from ...schema import CONVERSATION_COLUMNS, KEYS, REASONING_FIELDS, ROW, TRAIN_DETAILS
from ...turn_columns import IntArray, last_roles, rows_of_turns
from .read_items import ReadItems, find_others, list_of_others
from .suspects import find_suspects, outer_paths
from .trace import Entries, Entry, OutputValues, records_by_row, trace_value

ROWS = 50
"""The rows that are traced for a new leaf."""
_TEXTS = 200
"""Texts of conversations that show how long a usual one is."""
PRINTED = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", *REASONING_FIELDS})
"""Keys of turns that every template prints, or loses with an error of the loss guard."""
_STRUCTURE = frozenset({
    "type", "text", "function", "name", "id", "index", "toolUse", "toolResult", "toolUseId", "reasoningContent",
    *REASONING_FIELDS,
})  # fmt: skip
"""Keys of parts and calls that say how to read them, and of blocks of thoughts; no template need print an id."""
_CALLS = frozenset({*NAMES, "custom"})
"""Keys of calls that hold their names."""
_PAYLOAD = frozenset({*ARGUMENTS, "json"})
"""Keys of calls whose values are data: what is inside is printed with them."""


class Leaf(Struct, frozen=True):
    """A leaf that is left behind: its path, and its type in words."""

    path: str
    kind: str

    def __str__(self) -> str:
        return f"{self.path or repr('')} ({self.kind})"


class Ledger(Struct, frozen=True):
    """The known facts about the leaves of a source, as plain data.

    Until it is `open`, nothing is accounted for. `used` are the columns that are read. `waived` are the parts that
    columns left behind may look like, because the user chose another column for the part, or an output without it.
    `printed` are the keys of turns that the template prints, None if turns are written as they are; `printed_inside`
    are those of parts and calls. With `together` a conversation spans rows.

    `seen` are the columns and the keys of turns that have had values. `suspects` maps the leaves, turns and tools that
    look like part of the conversation to that part; `left` are all leaves that are left behind.
    """

    open: bool = False
    used: frozenset[str] = frozenset()
    keep: tuple[str, ...] | Literal["all"] = ()
    drop: tuple[str, ...] = ()
    exploded: str = ""
    """The path to the list whose items become rows, with their keys as columns."""
    mapped: frozenset[str] = frozenset()
    """The paths that the user maps to parts, as `messages[].images`."""
    items: ReadItems = field(default_factory=ReadItems)
    """The items that are read of lists, where it is not all of them."""
    role_key: str = ""
    """The path inside turns that the user maps to their role."""
    roles: dict[str, str] = field(default_factory=dict)
    """The names of roles that the user renames."""
    decisive: frozenset[str] = frozenset()
    """The keys of answers by which the dialect chooses some."""
    waived: frozenset[str] = frozenset()
    printed: frozenset[str] | None = None
    printed_inside: frozenset[str] = frozenset()
    together: bool = False
    seen: frozenset[str] = frozenset()
    left: tuple[Leaf, ...] = ()
    answered: bool = False
    """Whether a conversation ends with an answer."""
    suspects: dict[str, str] = field(default_factory=dict)

    def plain(self) -> list[list[str]]:
        """Return plain data that differs for ledgers that differ."""
        columns = [self.used, self.seen, self.waived, self.printed or (), self.printed_inside, self.items.indices]
        return [*map(sorted, columns), [*self.keep], [*self.drop], [str(leaf) for leaf in self.left], [*self.suspects]]

    @property
    def left_columns(self) -> tuple[Leaf, ...]:
        """The leaves of columns that are not used: `--keep` carries them."""
        return tuple(leaf for leaf in self.left if not self.is_used(leaf.path))

    @property
    def left_keys(self) -> tuple[Leaf, ...]:
        """The leaves inside columns that are used."""
        return tuple(leaf for leaf in self.left if self.is_used(leaf.path))

    def column_of(self, path: str, new: Container[str] = ()) -> str:
        """Return the column of a leaf, one of those known or `new`; the name of a column may have dots."""
        names = outer_paths(path)
        return next((name for name in names if name in self.seen or name in self.used or name in new), path)

    def is_used(self, path: str) -> bool:
        """Return whether the column of a leaf is read."""
        return self.column_of(path) in self.used

    def account(self, batch: pa.RecordBatch, conversations: pa.RecordBatch) -> Ledger:
        """Return the ledger with the leaves that are new in a source batch, given the conversations made of it."""
        new = dict(self._new(batch)) if self.open else {}
        if not new:
            return self
        traced = _first_rows(batch, new)
        by_row = self._conversations(conversations, traced.column(ROW))
        entries = self._trace(traced, by_row)
        keys = turn_keys(conversations)
        left = {path: entry for path, entry in entries.items() if self._is_left(path, entry, keys)}
        inside = {path for path in left if self.is_used(path)}
        texts = list(islice(chain.from_iterable(each.texts for each in by_row.values()), _TEXTS))
        suspects = find_suspects(left, {path: self.column_of(path, new) for path in left}, inside, texts)
        more = self.items.others_like_read(left)
        suspects = {path: part for path, part in more.items() if not _is_inside(path, suspects)} | suspects
        leaves = [Leaf(path, _kind(entry.values)) for path, entry in left.items()]
        known = {leaf.path for leaf in self.left}
        return replace(
            self,
            seen=self.seen | new.keys(),
            left=(*self.left, *(leaf for leaf in leaves if leaf.path not in known)),
            answered=self.answered or "assistant" in _last_roles(conversations),
            suspects=self.suspects | {path: part for path, part in suspects.items() if not self._is_waived(path, part)},
        )

    def _is_waived(self, path: str, part: str) -> bool:
        """Return whether the user chose another leaf for a part: not one item of a list that has more."""
        return part in self.waived and not list_of_others(path)

    def rows_to_trace(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a source batch that `account` needs, for leaves that are new in it."""
        return batch if self.together else _first_rows(batch, dict(self._new(batch)))

    def _new(self, batch: pa.RecordBatch) -> Iterator[tuple[str, IntArray]]:
        """Yield the columns and the keys of turns without values so far, each with its rows that have one."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in (ROW, KEYS):
                continue
            if name not in self.seen and len(rows := _filled(column)):
                yield name, rows
            keys = [item.name for item in column.type.value_type] if is_turns(column.type) else []
            new = {f"{name}[].{key}": place for place, key in enumerate(keys) if key != KEYS}
            new = {path: place for path, place in new.items() if path not in self.seen}
            if new:
                turns, owners = column.flatten(), rows_of_turns(column)
                found = ((path, _distinct(owners[_filled(turns.field(place))])) for path, place in new.items())
                yield from ((path, rows) for path, rows in found if len(rows))
        yield from (found for found in find_others(batch, self.items) if found[0] not in self.seen)

    def first_row(self, paths: Collection[str], batch: pa.RecordBatch) -> tuple[int, str]:
        """Return the first row of a batch with a value in one of these leaves, or in what it is in, and that leaf."""
        new = {name: int(rows[0]) for name, rows in self._new(batch)}
        rows = {path: min((new[name] for name in outer_paths(path) if name in new), default=0) for path in paths}
        path = min(rows, key=lambda path: rows[path])
        return rows[path], path

    def _conversations(self, batch: pa.RecordBatch, rows: pa.Array) -> dict[int, OutputValues]:
        """Return the conversations of source rows by their numbers, all under -1 if they span rows."""
        if self.together:
            return {-1: OutputValues(chain.from_iterable(records_by_row(batch).values()))}
        traced = pc.is_in(batch.column("row"), rows)
        records = records_by_row(batch if traced.true_count == len(batch) else batch.filter(traced))
        return {row: OutputValues(found) for row, found in records.items()}

    def _trace(self, batch: pa.RecordBatch, by_row: Mapping[int, OutputValues]) -> Entries:
        entries: Entries = {}
        for row, record in zip(batch.column(ROW).to_pylist(), records_of(batch), strict=True):
            conversation = by_row.get(-1 if self.together else row)
            if conversation is None:  # the row was filtered out
                continue
            for name, value in record.items():
                if self._is_open(name, value):
                    trace_value(entries, name, value, conversation, self.items)
        return entries

    def _is_open(self, name: str, value: Any) -> bool:
        """Return whether the leaves of a value must be traced: the column is not kept, and not read as one text."""
        if self._is_kept(name):
            return False
        written = isinstance(value, str) and value.lstrip()[:1] in ("[", "{")
        return name not in self.used or written or isinstance(value, (list, dict))

    def _is_kept(self, column: str) -> bool:
        return column in self.keep or (self.keep == "all" and column not in self.used)

    def _is_left(self, path: str, entry: Entry, keys: frozenset[str]) -> bool:
        inside = f"[].{path.partition('[].')[2]}"
        if self.is_dropped(path) or not self.mapped.isdisjoint((path.rstrip("[]"), inside.rstrip("[]"))):
            return False
        own = path.removeprefix(f"{self.exploded}[].")
        if own != path and self._is_kept(re.split(r"[.[]", own)[0]):
            return False
        if not self.is_used(path):
            return True
        if path.rstrip("[]") in self.used:  # a list of texts or labels is a part, as a column of them is
            return False
        if self.printed is not None and not _is_printed(own, keys, self.printed, self.printed_inside | _STRUCTURE):
            return True
        if list_of_others(path):
            return 2 * entry.copied <= entry.rows
        return (entry.dropped > 0 or 2 * entry.left >= entry.rows) and not self._is_structure(path, entry)

    def _is_structure(self, path: str, entry: Entry) -> bool:
        """Return whether a leaf tells how to read others: the role of a turn, the type of a block or of a parameter."""
        key = path.rpartition(".")[2].rstrip("[]")
        names = [value for value in entry.values if isinstance(value, str)]
        known = key in ROLE_KEYS and all(role_of(name, self.roles) for name in names)
        reads = key in self.decisive or (key == "type" and not path.endswith("cache_control.type"))
        return reads or known or (path.partition("[].")[2] or path) == self.role_key

    def is_dropped(self, path: str) -> bool:
        """Return whether the user drops a leaf, or what it is in; `messages.lang` names `messages[].lang`."""
        plain = path.replace("[]", "") + "."
        return any(plain.startswith(dropped.replace("[]", "").removesuffix(".*") + ".") for dropped in self.drop)


def _is_inside(path: str, others: Iterable[str]) -> bool:
    return any(f"{path}.".startswith((f"{other}.", f"{other}[")) or other.startswith(path) for other in others)


def flag_to_drop(ledger: Ledger, path: str) -> str:
    """Return the flag that leaves a leaf behind on purpose: its column, or what is inside a column that is used."""
    inside = list_of_others(path) or path
    named = inside.replace("[]", "") if ledger.is_used(path) else ledger.column_of(path)
    return f"--drop {shlex.quote(named)}"


def flag_to_read(ledger: Ledger, path: str, part: str) -> str:
    """Return the flag that reads a key of turns as their reasoning or calls; empty for others, and beside such keys."""
    turns, _, key = path.partition("[].")
    own = {"reasoning": REASONING_FIELDS, "calls": ("tool_calls",)}.get(part, ())
    others = any(f"{turns}[].{name}" in ledger.seen for name in own)
    top, name = re.split(r"[.\[]", key)[0], "tool_calls" if part == "calls" else part
    return f"--map messages.{name}={shlex.quote(top)}" if own and key and not others and ledger.is_used(path) else ""


def _first_rows(batch: pa.RecordBatch, new: Mapping[str, IntArray]) -> pa.RecordBatch:
    """Return the first rows of a batch that have each new leaf, in order."""
    rows = sorted(set(chain.from_iterable(found[:ROWS].tolist() for found in new.values())))
    return batch if len(rows) == len(batch) else batch.take(pa.array(rows, pa.int64()))


def _last_roles(conversations: pa.RecordBatch) -> list[str | None]:
    return last_roles(conversations.column("messages")) if "messages" in conversations.schema.names else []


def turn_keys(conversations: pa.RecordBatch) -> frozenset[str]:
    """Return the keys of the turns in a CONVERSATIONS batch."""
    columns = [conversations.column(name) for name in CONVERSATION_COLUMNS if name in conversations.schema.names]
    return frozenset(key.name for column in columns if is_turns(column.type) for key in column.type.value_type)


def _is_printed(path: str, keys: frozenset[str], printed: frozenset[str], known: frozenset[str]) -> bool:
    """Return whether a template that prints some `keys` of turns prints a leaf; it is asked about turns alone."""
    steps = path.partition("[].")[2].split(".")
    inside = [step.partition("[")[0] for step in steps]
    if inside[0] not in keys or steps[0] == "content":  # whole, also an object, but not a list of parts
        return True
    if inside[0] not in printed:
        return False
    if inside[0] in TRAIN_DETAILS:
        return True
    known = known | _CALLS if inside[0] == "tool_calls" else known
    return all(step in known for step in takewhile(lambda step: step not in _PAYLOAD, inside[1:]))


def _kind(values: Sequence[Any]) -> str:
    """Return the types of values in words."""
    names = {str: "text", bool: "true/false", int: "number", float: "number", bytes: "binary", list: "list"}
    return " or ".join(dict.fromkeys(names.get(type(value), type(value).__name__) for value in values)) or "empty"


def _distinct(rows: IntArray) -> IntArray:
    """Return sorted numbers once each; `numpy.unique` would import numpy.ma (40 ms)."""
    return rows[np.diff(rows, prepend=-1) > 0]


def _filled(column: pa.Array) -> IntArray:
    """Return the indices of the values that are not empty."""
    if column.null_count == len(column):
        return np.empty(0, np.int64)
    return np.flatnonzero(is_filled(column).to_numpy(zero_copy_only=False))
