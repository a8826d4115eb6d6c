"""Detect the dialect of a dataset from a sample of its rows, or explain why it cannot be detected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ... import schema
from ...errors import UnknownName
from ...field_path import top_level
from ..dialect import Dialect
from ..instruction.prompt_completion import COMPLETIONS, CONTEXTS
from ..kit.columns import SIDE_PARTS, SYSTEM, TEMPLATE_KWARGS, TOOLS, Columns, SourceRow, records_of
from .alternatives import left_as_text, other_dialects
from .no_dialect import no_dialect, rows_differ, types_differ
from .record_reader import Reading, RecordReader


class Detection(Struct, frozen=True):
    """The dialect of a dataset, the complete columns for its `convert`, and how the decision was made.

    `others` maps other dialects that fit to the reason why they were not chosen. `type` is one of `language-modeling`,
    `prompt-only`, `prompt-completion`, `preference`, `unpaired-preference`, `segments`, `stepwise`, `text`.
    """

    dialect: str
    columns: Columns
    rows_seen: int
    rows_fit: int
    reason: str
    used: tuple[str, ...]
    unused: tuple[str, ...]
    others: Mapping[str, str] = field(default_factory=dict)
    type: str = "language-modeling"
    whole_file: bool = False
    left: tuple[str, ...] = ()
    """Notes on text that could be parsed, with the flags for it."""


def detect_dialect(
    registry: Mapping[str, Dialect],
    batches: Sequence[pa.RecordBatch],
    columns: Columns,
    name: str = "auto",
    shown: Mapping[str, str] | None = None,
) -> Detection:
    """Detect the dialect of the rows in `batches`, or find out how the dialect `name` reads them.

    `shown` maps columns to the words for them in the reason. Raises NoDialect if no dialect fits or the choice is
    ambiguous, UnknownName for a name that is not in the registry or a kept column that no row has.
    """
    if name != "auto" and name not in registry:
        raise UnknownName.of("dialect", name, [*registry, "auto"])
    records = [record for batch in batches for record in records_of(batch)]
    names = tuple(
        dict.fromkeys(key for batch in batches for key in batch.schema.names if key not in (schema.ROW, schema.KEYS))
    )
    _check_kept(columns, names if records else ())
    candidates = detectable(registry, columns) if name in ("auto", "mixed") else {name: registry[name]}
    readings = drop_bare_results(list(map(RecordReader(candidates, columns), records)))
    found = [reading for reading in readings if reading is not None]
    if not found or 2 * len(found) < len(records):
        raise no_dialect(names, records, columns, name, len(found))
    dialect, parts = choose_dialect(found, candidates) if name != "mixed" else (name, {})
    if dialect == "mixed" != name != "auto":
        raise rows_differ([parts for _, parts in found])
    types = types_of(registry, found, columns) if dialect == "mixed" and name == "auto" else ()
    if len(types) > 1:
        raise types_differ(types)
    return _detection(registry, dialect, columns.adding(parts), readings, names, records, shown or {})


def types_of(registry: Mapping[str, Dialect], found: Sequence[Reading], columns: Columns) -> Counter[str]:
    """Count the rows of each dataset type; a prompt with its completion counts as a conversation."""
    types = (type_of(registry[name], name, columns.adding(parts)) for name, parts in found)
    return Counter("language-modeling" if type == "prompt-completion" else type for type in types)


def _check_kept(columns: Columns, names: Sequence[str]) -> None:
    missing = [name for name in columns.keep if name not in names] if names and columns.keep != "all" else []
    if missing:
        raise UnknownName.of("column", missing[0], names)


def detectable(registry: Mapping[str, Dialect], columns: Columns) -> dict[str, Dialect]:
    """Return the dialects that `auto` may choose: those that read every mapped part."""
    mapped = columns.parts() - SIDE_PARTS
    return {name: dialect for name, dialect in registry.items() if not dialect.opt_in and mapped <= dialect.parts}


def drop_bare_results(readings: Sequence[Reading | None]) -> list[Reading | None]:
    """Set readings to None whose completion is a bare result (`answer`), where other rows have a `solution`."""
    solved = {
        parts.get("prompt") for _, parts in filter(None, readings) if parts.get("completion", "").lower() == "solution"
    }
    return [
        None if reading and reading[1].get("completion", "").lower() == "answer" and reading[1]["prompt"] in solved
        else reading
        for reading in readings
    ]  # fmt: skip


def choose_dialect(found: Sequence[Reading], candidates: Mapping[str, Dialect]) -> tuple[str, dict[str, str]]:
    """Return the dialect that reads all rows and the parts of all readings, or `mixed`."""
    names = dict.fromkeys(name for name, _ in found)
    for name in names:
        if (
            set(names) <= {name} | candidates[name].covers
            and (parts := join_parts(parts for _, parts in found)) is not None
        ):
            return name, parts
    return "mixed", {}


def join_parts(all_parts: Iterable[Mapping[str, str]]) -> dict[str, str] | None:
    """Merge the parts of all rows; None if two rows have the same part in different columns."""
    out: dict[str, str] = {}
    for parts in all_parts:
        for part, path in parts.items():
            if out.setdefault(part, path) != path:
                return None
    return out


def _detection(
    registry: Mapping[str, Dialect],
    dialect: str,
    columns: Columns,
    readings: Sequence[Reading | None],
    names: tuple[str, ...],
    records: Sequence[SourceRow],
    shown: Mapping[str, str],
) -> Detection:
    fitting = [record for record, reading in zip(records, readings, strict=True) if reading is not None]
    used = tuple(dict.fromkeys(_used(columns, readings, names)))
    kept = [name for name in names if name not in schema.CONVERSATIONS] if columns.keep == "all" else columns.keep
    if dialect == "mixed":
        type = types_of(registry, [reading for reading in readings if reading], columns).most_common(1)[0][0]
    else:
        type = type_of(registry[dialect], dialect, columns)
    return Detection(
        dialect=dialect,
        columns=replace(columns, type=type)
        if dialect == "mixed"
        else _with_late(registry[dialect], columns, used, names, fitting),
        rows_seen=len(records),
        rows_fit=len(fitting),
        reason=_reason(registry, dialect, columns, readings, shown),
        used=used,
        unused=tuple(name for name in names if name not in used and name not in kept),
        others={} if dialect == "mixed" else other_dialects(registry, dialect, columns, records),
        left=left_as_text(registry, dialect, columns, records),
        type=type,
        whole_file=dialect != "mixed" and registry[dialect].whole_file,
    )


LATE: dict[str, Sequence[str]] = {
    "system": SYSTEM, "tools": TOOLS, "template_kwargs": TEMPLATE_KWARGS, "context": CONTEXTS, "history": ("history",),
    "documents": ("documents",), "completion": COMPLETIONS,
}  # fmt: skip
"""Names of columns that only some rows may fill, by part."""
_WATCHED = ("documents", "completion")
"""Parts that are not read from later rows, because the column may mean something else; such rows are errors."""


def _with_late(
    dialect: Dialect, columns: Columns, used: Sequence[str], names: Sequence[str], records: Sequence[SourceRow]
) -> Columns:
    """Add the columns that are empty in the sample but may be filled later: to read, or to watch so nothing is lost."""
    if dialect.type in ("text", "segments") or columns.option("late", "read", "read", "ignore") == "ignore":
        return columns
    filled = {name for record in records for name, value in record.items() if value not in _NOTHING}
    taken = {*used, *filled, *(() if columns.keep == "all" else columns.keep)}
    late: dict[str, str] = {}
    watched: dict[str, str] = {}
    for part in _open_parts(dialect, columns):
        free = sorted((name for name in LATE[part] if name not in taken), key=lambda name: name not in names)
        late |= {part: free.pop(0)} if free and part not in _WATCHED else {}
        watched |= dict.fromkeys(free, part)
    return replace(columns, late=late, watched=watched)


def _open_parts(dialect: Dialect, columns: Columns) -> list[str]:
    """Return the optional parts that the dialect reads and no sampled row has."""
    optional = SIDE_PARTS | (dialect.parts & {"context", "history"})
    optional |= {"completion"} if dialect.type == "prompt-only" else frozenset()
    return [part for part in LATE if part in optional and columns.path(part) is None]


_NOTHING: tuple[object, ...] = (None, "", [], {}, "[]", "{}")


def _used(columns: Columns, readings: Sequence[Reading | None], names: Sequence[str]) -> list[str]:
    paths = [path for part, path in columns.fields.items() if "." not in part]
    if not paths:
        paths = [path for _, parts in filter(None, readings) for part, path in parts.items() if "." not in part]
    return [name for name in (top_level(path.removesuffix("[]"), names) for path in paths) if name in names]


def _reason(
    registry: Mapping[str, Dialect],
    dialect: str,
    columns: Columns,
    readings: Sequence[Reading | None],
    shown: Mapping[str, str],
) -> str:
    fit = [name for name, _ in filter(None, readings)]
    if dialect == "mixed":
        counts = ", ".join(f"{count} {name}" for name, count in Counter(fit).most_common())
        return f"rows in different dialects: {counts}"
    paths = {part: shown.get(path, path) for part, path in columns.fields.items() if "." not in part}
    parts = ", ".join(f"{part}: `{path}`" for part, path in paths.items())
    seen = f"fits {len(fit)} of {len(readings)}" if len(fit) < len(readings) else f"checked {len(fit)}"
    return f"{registry[dialect].summary}; {parts} ({seen} {'row' if len(readings) == 1 else 'rows'})"


def type_of(dialect: Dialect, name: str, columns: Columns) -> str:
    """Return the dataset type that a dialect makes of these columns."""
    kind = dialect.type
    if columns.path("chosen") is not None or columns.options.get("paths") == "pairs":
        return "preference"
    if columns.path("label") is not None and kind != "stepwise":
        return "unpaired-preference"
    if kind == "prompt-only" and columns.path("completion") is not None:
        return "prompt-completion"
    flat = (columns.path("prompt"), columns.path("completion")) == ("prompt", "completion")
    return "prompt-completion" if flat and name == "prompt-completion" else kind


def used_columns(detection: Detection) -> tuple[str, ...]:
    """Return the source columns that `convert` needs: those of parts, kept ones, late ones.

    An empty tuple means all columns: the rows are in different dialects, or all columns are kept.
    """
    columns = detection.columns
    if columns.keep == "all" or detection.dialect == "mixed":
        return ()
    return tuple(dict.fromkeys((*detection.used, *columns.keep, *columns.late.values(), *columns.watched)))
