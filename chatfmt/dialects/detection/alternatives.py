"""Other readings of rows whose dialect is found: what else they could be, and what in them stays text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from ...errors import NoDialect
from ...field_path import value_at
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow

FEW = 50
"""Rows that are enough to name other readings."""
_MARK = "<extra_id_1>"
_MARKED = (
    r"--map transcript='\n<extra_id_1>User\n{{{{ {prompt} }}}}\n<extra_id_1>Assistant\n{{{{ {completion} }}}}' "
    r"--marker '\n<extra_id_1>User\n=user' --marker '\n<extra_id_1>Assistant\n=assistant'"
)
"""How turns are read that HelpSteer2 joins to one prompt; see its data card (nvidia/HelpSteer2)."""


def others(
    registry: Mapping[str, Dialect], dialect: str, columns: Columns, records: Sequence[SourceRow]
) -> dict[str, str]:
    """Other dialects that read at least half of the first rows, with the reason why they were not taken."""
    records, plain, order = records[:FEW], replace(columns, fields={}), list(registry)
    found: dict[str, str] = {}
    for name, other in registry.items():
        same = other.convert is registry[dialect].convert and not other.opt_in
        if name in (dialect, "mixed") or same or other.parses_text:
            continue
        if 2 * sum(_fits(other, record, plain) for record in records) >= len(records):
            later = "less specific" if order.index(name) > order.index(dialect) else "not with this mapping"
            found[name] = f"{other.summary}; {'only by name' if other.opt_in else later}: --dialect {name}"
    return found


def left_as_text(
    registry: Mapping[str, Dialect], dialect: str, columns: Columns, records: Sequence[SourceRow]
) -> tuple[str, ...]:
    """What stays text in these rows though it could be read, each with what to type for that."""
    plain = replace(columns, fields={})
    told = [
        f"{other.summary}: left as text, --dialect {name} parses it"
        for name, other in registry.items()
        if other.parses_text
        and dialect in other.covers
        and any(_fits(other, record, plain) for record in records[:FEW])
    ]
    prompt, completion = columns.path("prompt"), columns.path("completion")
    if prompt and completion and any(_MARK in str(value_at(record, prompt)) for record in records):
        flags = _MARKED.format(prompt=prompt, completion=completion)
        told.append(f"turns marked with `{_MARK}` in `{prompt}`: left as one text, split it with {flags}")
    return tuple(told)


def _fits(dialect: Dialect, record: SourceRow, columns: Columns) -> bool:
    try:
        return dialect.find_parts(record, columns) is not None
    except NoDialect:
        return False
