"""Rows that are turns or events -> one row per conversation, in files of their own that keep the names of the source.

    conversation_id  turn  role       text          conversation_id  messages
    c1               1     user       hi        →   c1               [{"turn": 1, "role": "user", "text": "hi"}, …]
    c1               2     assistant  hello

A row holds the key of its conversation and, as `messages`, its rows without the key. A column that `--map`, `--keep`,
`--dedup-by` or `--split-by` names belongs to the conversation: its one value stands beside `messages`.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from ... import mapping, sources
from ...dialects.kit.columns import TURN_KEYS
from ...errors import Location, RowError, UnknownName, located
from ...field_path import FieldPath, top_level, value_at
from ...json_columns import dumps, loads, to_display, to_plain
from ...mapping.plan import TURN_FIELDS, FieldMapping
from ...recipe import Recipe
from ...render.sandbox.expressions import expression, text_expression
from ...schema import ROW
from ...scratch_folder import explained
from ...sources import Source, SourceFile
from ...sources.formats.grouped import bad_line
from ...sources.json.record_batch import too_large_error
from ...sources.model import whole_file
from ..conversion.source_rows import column_names, merge_batches, row_order, split_rows, to_records
from .order import Order
from .spool import Spool, SpooledRow

FILE, FOLDER = "@file", "@folder"
"""The keys that make one conversation of each file, or of the files of each folder."""
_AROUND = 64 << 10
"""Bytes that a line may hold besides its record, or the rows of an error in base64."""
_REMEMBERED = 1000
"""Sets of columns whose shared ones are remembered."""
_BAD = "bad "
"""How the text of a row that cannot be read begins in the spool."""


def group_source(recipe: Recipe, source: Source, splits: Iterable[str], folder: Path) -> Source:
    """Return the source with one row per conversation, of the given splits, in files written to `folder`.

    A row that cannot be read or has no key becomes a row that cannot be read, in its place. Raises UnknownName for a
    column that no sampled row has, UsageError for values without an order, OutputError if the disk is full.
    """
    splits = tuple(splits)
    sample = [batch for split in splits for batch in sources.sample(source, split, bad=[])]
    sample += [row for split in splits for row in sources.late_rows(source, split, unsampled_columns(recipe, sample))]
    with located(source.shown):
        keys = check_columns(recipe, sample)
    groupings = [Grouping(recipe, keys, source, split) for split in splits]
    grouped = {each.split: each.write(folder) for each in groupings}
    longest = 2 * source.options.max_row_bytes + _AROUND
    return replace(
        source,
        splits=grouped,
        originals=source.originals or tuple(file for each in groupings for file in each.files),
        options=sources.ParseOptions(allow_empty=source.options.allow_empty, grouped=True, max_row_bytes=longest),
        notes=(*source.notes, *(each.note for each in groupings)),
    )


def selection_of(recipe: Recipe) -> FieldMapping:
    """Return `--explode` and `--where` alone as a mapping."""
    return mapping.plan({}, explode=recipe.explode, where=recipe.condition)


def unsampled_columns(recipe: Recipe, sample: Sequence[pa.RecordBatch]) -> set[str]:
    """Return the columns of single rows that the recipe names and no row of the sample has."""
    selected = selection_of(recipe)
    own = (*recipe.group_by, recipe.order_by) if recipe.explode is None else ()
    named = {part for name in own if name not in (None, FILE, FOLDER) for part in (name, *name.split(","))}
    known = {*column_names(sample)}
    return {*selected.needs, *(top_level(name, known) for name in named)} - known


def check_columns(recipe: Recipe, sample: Sequence[pa.RecordBatch]) -> tuple[str, ...]:
    """Return the keys of a conversation, `a,b` as two unless a column has that name.

    Raises UnknownName for a key, an order or a column of `--where` that no sampled row has.
    """
    names = column_names(sample)
    keys = tuple(key for name in recipe.group_by for key in ([name] if name in names else name.split(",")))
    for column in (*keys, recipe.order_by) if recipe.explode is None else ():
        if column not in (None, FILE, FOLDER) and top_level(column, names) not in names:
            error = UnknownName.of("column", top_level(column, names), names)
            if column in keys and not error.hint.startswith("did you mean"):
                text = f"no sampled row has the column `{column}`, which says to which conversation a row belongs"
                raise UnknownName(text, hint=f"{error.hint}; or --group-by {FILE} makes one conversation of each file")
            raise error
    mapping.check_columns(selection_of(recipe), names)
    return keys


def new_file(folder: Path) -> Path:
    """Create an empty file in a folder, with a name of its own."""
    with explained(folder):
        number, name = tempfile.mkstemp(dir=folder, prefix="group-")
        os.close(number)
    return Path(name)


class Grouping:
    """The rows of one split on their way to conversations."""

    def __init__(self, recipe: Recipe, keys: tuple[str, ...], source: Source, split: str) -> None:
        self.keys, self.split = keys, split
        self.files, self.options = source.splits[split], source.options
        self.order = Order(recipe.order_by) if recipe.order_by else None
        self.mapped = mapping.plan(recipe.map, markers=recipe.marker)
        self.shared: dict[tuple[str, ...], frozenset[str]] = {}
        self.drop = recipe.drop
        self.has_messages = recipe.map.get("messages", "messages").split(".")[0].split("[")[0] != "messages"
        self.named = [name for name in (*keys, *recipe.keep, recipe.dedup_by, recipe.split_by) if name]
        selected = selection_of(recipe)
        self.selector = None if selected.is_empty else mapping.mapper(selected, text_expression, expression)
        self.rows = self.filtered = self.conversations = 0

    @property
    def note(self) -> str:
        """The note on what grouping has made of the rows."""
        without = f", left out by --where {self.filtered:,}" if self.filtered else ""
        return f"--group-by {','.join(self.keys)}: rows {self.rows:,}, conversations {self.conversations:,}{without}"

    def write(self, folder: Path) -> tuple[SourceFile, ...]:
        """Write the conversations of the split to `folder`, each to the file that stands for that of its first row."""
        path, *paths = [new_file(folder) for _ in range(1 + len(self.files))]
        spool = Spool(path)
        try:
            for number, file in enumerate(self.files):
                for keyed in self._read(number, file):
                    spool.add(keyed)
            with ExitStack() as stack:
                outs = [stack.enter_context(path.open("wb")) for path in paths]
                for rows in spool.groups():
                    first, line = self._line(rows)
                    self.conversations += "record" in line
                    with explained(folder):
                        outs[first].write(dumps(line).encode() + b"\n")
        finally:
            spool.close()
        return tuple(
            SourceFile(str(path), file.shown, "jsonl", None, path.stat().st_size)
            for path, file in zip(paths, self.files, strict=True)
        )

    def _read(self, number: int, file: SourceFile) -> Iterator[list[tuple[str, SpooledRow]]]:
        """Yield the rows of a file with their keys, then those that cannot be read, each under a key of its own."""
        bad: list[tuple[RowError, bytes]] = []
        for batch in sources.read(
            whole_file(file, self.split, self.options), on_bad=lambda error, raw: bad.append((error, raw))
        ):
            batch = self._selected(batch, bad)
            found = to_records(batch)
            plain = map(to_plain, found) if file.format in ("parquet", "arrow") else found
            records = zip(batch.column(ROW).to_pylist(), plain, strict=True)
            yield [found for row, record in records for found in self._keyed(number, row, record, bad)]
        self.rows += len(bad)
        lines = sources.LineFinder(whole_file(file, self.split, self.options))
        bad.sort(key=lambda each: row_order(each[0].at))
        for error, _ in bad:
            error.at = lines.with_line(error.at)
        yield [
            (f"{_BAD}{number} {place}", SpooledRow(number, error.at.row or 0, _BAD + dumps(bad_line(0, error, raw))))
            for place, (error, raw) in enumerate(bad)
        ]

    def _selected(self, batch: pa.RecordBatch, bad: list[tuple[RowError, bytes]]) -> pa.RecordBatch:
        """Return the rows that `--explode` makes and `--where` keeps."""
        if self.selector is None:
            return batch
        try:
            mapped = self.selector(batch)
        except RowError as error:
            if len(batch) > 1:
                return next(merge_batches(self._selected(row, bad) for row in split_rows(batch)))
            error.locate(rows=batch.column(ROW))
            bad.append((error, dumps(to_display(to_records(batch)[0])).encode()))
            return batch.slice(0, 0)
        self.filtered += mapped.counts["filtered"]
        return mapped.batch

    def _keyed(
        self, number: int, row: int, record: dict[str, Any], bad: list[tuple[RowError, bytes]]
    ) -> Iterator[tuple[str, SpooledRow]]:
        """Yield a row with its key, or add its error to `bad`."""
        needed = self._needed(tuple(record))
        kept = {name: _text_of(value) for name, value in record.items() if name in needed}
        try:
            found = self._key_of(kept, number), SpooledRow(number, row, _json_of(kept))
        except RowError as error:
            error.locate(row=row)
            bad.append((error, dumps(to_display(record)).encode()))
            return
        if self.order is not None and (value := value_at(kept, self.order.column)) is not None:
            self.order.see(value, Location(self.files[number].shown, row))
        self.rows += 1
        yield found

    def _needed(self, names: tuple[str, ...]) -> frozenset[str]:
        """Return those of the columns that are not dropped, or that are read before they are."""
        if not self.drop:
            return frozenset(names)
        read = {top_level(self.order.column, names)} if self.order is not None else set()
        read.update(top_level(key, names) for key in self.keys)
        return frozenset(names).difference(self.drop) | self._shared(names) | read

    def _key_of(self, record: Mapping[str, Any], number: int) -> str:
        """Return the keys of a row as text: `1`, `1.0` and `"1"` are one key, and so are `true` and `"true"`."""
        found = [self._value_of(key, record, number) for key in self.keys]
        return found[0] if len(found) == 1 else dumps(found)

    def _value_of(self, key: str, record: Mapping[str, Any], number: int) -> str:
        if key == FILE:
            return f"file {number}"
        if key == FOLDER:  # sources have folders, and archives, of the same name
            file = self.files[number]
            return f"folder {PurePosixPath(file.shown).parent} of {file.uri.replace(file.shown, '', 1)}"
        value = value_at(record, key)
        if value is None or value == "":
            raise RowError(f"the row has no value in `{key}`", code="group.key")
        if isinstance(value, (dict, list)):
            kind = "a list" if isinstance(value, list) else "an object"
            raise RowError(f"`{key}` is {kind}, not a key", code="group.key")
        if isinstance(value, bool):
            value = dumps(value)
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        return f"key {value}"

    def _line(self, rows: Iterator[SpooledRow]) -> tuple[int, dict[str, Any]]:
        """Return the file of the first row of a group, and its line: the conversation, or an error."""
        kept: list[SpooledRow] = []
        size = 0
        for row in rows:
            size += len(row.text)
            if not kept or size <= self.options.max_row_bytes:
                kept.append(row)
        first = kept[0]
        if first.text.startswith(_BAD):
            return first.file, {**loads(first.text.removeprefix(_BAD)), "row": first.row}
        try:
            if size > self.options.max_row_bytes:
                raise too_large_error(self.options.max_row_bytes)
            return first.file, {"row": first.row, "record": self._conversation(kept)}
        except RowError as error:
            raw = dumps({"messages": [loads(row.text) for row in kept]})
            return first.file, bad_line(first.row, error, raw.encode())

    def _conversation(self, rows: Sequence[SpooledRow]) -> dict[str, Any]:
        """Return the record of a conversation; raises RowError."""
        events = [(row, loads(row.text)) for row in rows]
        if self.order is not None:
            events = self._sorted(events, self.order)
        names = tuple(dict.fromkeys(name for _, event in events for name in event))
        shared = self._shared(names)
        record = {name: self._one_value(name, events) for name in names if name in shared}
        turns = [
            {name: value for name, value in event.items() if name not in shared and name not in self.drop}
            for _, event in events
        ]
        if any(turns):
            record["rows" if self.has_messages or "messages" in record else "messages"] = turns
        return record

    def _shared(self, names: tuple[str, ...]) -> frozenset[str]:
        """Return those of the columns that belong to the conversation."""
        if names not in self.shared:
            if len(self.shared) > _REMEMBERED:
                self.shared.clear()
            named = (name if name in self.keys else top_level(name, names) for name in self.named)
            self.shared[names] = frozenset((*self.mapped.reads(names), *named))
        return self.shared[names]

    def _sorted(
        self, events: list[tuple[SpooledRow, dict[str, Any]]], order: Order
    ) -> list[tuple[SpooledRow, dict[str, Any]]]:
        for row, event in events:
            if value_at(event, order.column) is None:
                raise self._error(row, f"the row has no value in `{order.column}`", "group.order")
        return sorted(events, key=lambda pair: order.key(value_at(pair[1], order.column)))

    def _one_value(self, name: str, events: Sequence[tuple[SpooledRow, dict[str, Any]]]) -> Any:
        """Return the value that a column has in the rows of a conversation; those without one do not count."""
        found = [(row, event[name]) for row, event in events if event.get(name) is not None]
        other = next((row for row, value in found if value != found[0][1]), None)
        if other is not None and name not in self.keys:
            message = f"`{name}` differs from its value in earlier rows of the conversation"
            part = next(
                (part for part, path in self.mapped.fields if isinstance(path, FieldPath) and path.root == name), ""
            )
            hint = f"--map '{part}=messages[].{name}' reads it from every row" if part in TURN_FIELDS else ""
            hint = f"--map messages.{part}={name} reads it in each turn" if f"messages.{part}" in TURN_KEYS else hint
            raise self._error(other, message, "group.column", hint)
        return found[0][1] if found else None

    def _error(self, row: SpooledRow, message: str, code: str, hint: str = "") -> RowError:
        return RowError(message, code=code, hint=hint, at=Location(self.files[row.file].shown, row.row))


def _text_of(value: Any) -> Any:
    """Return a value with bytes that are UTF-8 as text, also inside of it."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    if isinstance(value, list):
        return [_text_of(item) for item in value]
    return {name: _text_of(item) for name, item in value.items()} if isinstance(value, dict) else value


def _json_of(record: Mapping[str, Any]) -> str:
    """Return a record as JSON; raises RowError with the names of the columns that JSON cannot hold."""
    try:
        return dumps(record)
    except (TypeError, ValueError):
        reasons = {name: reason for name, value in record.items() if (reason := _no_json(value))}
        if not reasons:
            raise
        first, reason = next(iter(reasons.items()))
        more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise RowError(
            f"`{first}` is not JSON data: {reason}{more}",
            code="group.value",
            hint=" ".join(f"--drop {shlex.quote(name)}" for name in reasons),
        ) from None


def _no_json(value: Any) -> str:
    """Return why a value is not JSON data, empty if it is."""
    try:
        dumps(value)
    except (TypeError, ValueError) as error:
        return "it holds binary data" if "bytes" in str(error) else str(error)
    return ""
