"""Other ways to read rows whose dialect is known: further dialects, and text that could be parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from ...errors import NoDialect
from ...field_path import value_at
from ...lazy import on_call
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow

nested_turns = on_call(__package__, ".turn_hints:nested_turns")
transcript_hint = on_call(__package__, ".turn_hints:transcript_hint")
_ROWS = 50
"""The number of rows that are read with other dialects."""
_MARK = "<extra_id_1>"
_MARKED = (
    r"--map transcript='\n<extra_id_1>User\n{{{{ {prompt} }}}}\n<extra_id_1>Assistant\n{{{{ {completion} }}}}' "
    r"--marker '\n<extra_id_1>User\n=user' --marker '\n<extra_id_1>Assistant\n=assistant'"
)
"""Flags that split the turns which HelpSteer2 joins into one prompt; see its dataset card (nvidia/HelpSteer2)."""


def other_dialects(
    registry: Mapping[str, Dialect], dialect: str, columns: Columns, records: Sequence[SourceRow]
) -> dict[str, str]:
    """Return other dialects that read at least half of the first rows, with the reason why they were not chosen."""
    records, plain, order = records[:_ROWS], replace(columns, fields={}), list(registry)
    found: dict[str, str] = {}
    for name, other in registry.items():
        same = other.convert is registry[dialect].convert and not other.opt_in
        if name in (dialect, "mixed") or same or other.parses_text:
            continue
        unread = (record for record in records if not _fits(other, record, plain))
        if next(islice(unread, len(records) // 2, None), None) is None:  # no more than half
            rank = "less specific" if order.index(name) > order.index(dialect) else "does not use this mapping"
            found[name] = f"{other.summary}; {'only by name' if other.opt_in else rank}: --dialect {name}"
    return found


def left_as_text(
    registry: Mapping[str, Dialect], dialect: str, columns: Columns, records: Sequence[SourceRow]
) -> tuple[str, ...]:
    """Return notes on text in these rows that could be parsed, with the flags for it."""
    plain = replace(columns, fields={})
    notes = [
        f"{other.summary}: left as text, --dialect {name} parses it"
        for name, other in registry.items()
        if other.parses_text
        and dialect in other.covers
        and any(
            _fits(other, record, plain) and (other.finds is None or other.finds(record, plain))
            for record in records[:_ROWS]
        )
    ]
    prompt, completion = columns.path("prompt"), columns.path("completion")
    texts = columns.path("messages") or prompt
    if dialect in ("string-turns", "user-turns") and texts and (hint := transcript_hint([texts], records)):
        notes.append(f"{hint}; the names are left in the text")
    text = value_at(records[0], prompt) if prompt else None
    if prompt and isinstance(text, str) and text.lstrip()[:1] in ("[", "{"):
        paths = (path for path, _ in nested_turns(text, plain, prompt) if path != prompt)
        notes += [f"`{prompt}` is text that holds turns: --map prompt={shlex.quote(path)} reads them" for path in paths]
    if prompt and completion and any(_MARK in str(value_at(record, prompt)) for record in records):
        flags = _MARKED.format(prompt=prompt, completion=completion)
        notes.append(f"turns marked with `{_MARK}` in `{prompt}`: left as one text, split it with {flags}")
    return tuple(notes)


_RENDERED = re.compile(r"(?:<s>|<bos>|<\|begin_of_text\|>)?(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>)")
"""How text begins that a template with special tokens has rendered."""


def rendered_question(dialect: str, columns: Columns, records: Sequence[SourceRow]) -> tuple[str, tuple[str, ...]]:
    """Return what `--map text=` reads of rows whose questions are all rendered text, and a note on it; else nothing."""
    path, completion = columns.path("messages") or columns.path("prompt"), columns.path("completion")
    for inner in (path, f"{path}[0].content") if path and dialect != "transcript" else ():
        texts = [value_at(record, inner) for record in records[:_ROWS]]
        if texts and all(isinstance(text, str) and _RENDERED.match(text) for text in texts):
            joined = completion and inner == columns.path("prompt")
            text = f"{{{{ {inner} }}}}{{{{ {completion} }}}}" if joined else inner
            flags = f"--dialect transcript --map text={shlex.quote(text)} --transform empty_turns=drop"
            note = f"`{inner}` has rendered text, special tokens and all: left as one text, {flags} reads its turns"
            return text, (note,)
    return "", ()


def _fits(dialect: Dialect, record: SourceRow, columns: Columns) -> bool:
    try:
        return dialect.find_parts(record, columns) is not None
    except NoDialect:
        return False
