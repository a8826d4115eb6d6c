"""Which dialect a data set speaks, found by looking at its rows, or why that cannot be said."""

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
from .alternatives import left_as_text, others
from .no_dialect import no_dialect, rows_differ, types_differ
from .record_reader import Reading, RecordReader


class Detection(Struct, frozen=True):
    """The dialect of a data set, the complete columns for its `convert`, and what else was seen.

    `others` are other readings that were possible, each with the reason why it was not taken. `type` is one of
    `language-modeling`, `prompt-only`, `prompt-completion`, `preference`, `unpaired-preference`, `segments`,
    `stepwise`, `text`.
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
    """What stays text though it could be read, each with what to type for that."""


def detect_dialect(
    registry: Mapping[str, Dialect],
    batches: Sequence[pa.RecordBatch],
    columns: Columns,
    name: str = "auto",
    shown: Mapping[str, str] | None = None,
) -> Detection:
    """The dialect of the rows in `batches`, or how the dialect `name` reads them; `shown` are words for columns.

    Raises NoDialect if none fits or two do, UnknownName for a name that is not in the registry, or a kept column that
    no row has.
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
    """How many rows are of each type of data set; a prompt with its completion is a conversation."""
    types = (type_of(registry[name], name, columns.adding(parts)) for name, parts in found)
    return Counter("language-modeling" if type == "prompt-completion" else type for type in types)


def _check_kept(columns: Columns, names: Sequence[str]) -> None:
    missing = [name for name in columns.keep if name not in names] if names and columns.keep != "all" else []
    if missing:
        raise UnknownName.of("column", missing[0], names)


def detectable(registry: Mapping[str, Dialect], columns: Columns) -> dict[str, Dialect]:
    """The dialects that `auto` may choose: those that read every part which is mapped."""
    asked = columns.parts() - SIDE_PARTS
    return {name: dialect for name, dialect in registry.items() if not dialect.opt_in and asked <= dialect.parts}


def drop_bare_results(readings: Sequence[Reading | None]) -> list[Reading | None]:
    """The readings without rows whose worked `solution` is missing, so that only its result, `answer`, is there."""
    solved = {
        parts.get("prompt") for _, parts in filter(None, readings) if parts.get("completion", "").lower() == "solution"
    }
    return [
        None if reading and reading[1].get("completion", "").lower() == "answer" and reading[1]["prompt"] in solved
        else reading
        for reading in readings
    ]  # fmt: skip


def choose_dialect(found: Sequence[Reading], candidates: Mapping[str, Dialect]) -> tuple[str, dict[str, str]]:
    """The one dialect and the joint parts of all readings, or `mixed`."""
    names = dict.fromkeys(name for name, _ in found)
    for name in names:
        if (
            set(names) <= {name} | candidates[name].covers
            and (parts := join_parts(parts for _, parts in found)) is not None
        ):
            return name, parts
    return "mixed", {}


def join_parts(all_parts: Iterable[Mapping[str, str]]) -> dict[str, str] | None:
    """All parts together, None if two rows have one part in different columns."""
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
        others={} if dialect == "mixed" else others(registry, dialect, columns, records),
        left=left_as_text(registry, dialect, columns, records),
        type=type,
        whole_file=dialect != "mixed" and registry[dialect].whole_file,
    )


LATE: dict[str, Sequence[str]] = {
    "system": SYSTEM, "tools": TOOLS, "template_kwargs": TEMPLATE_KWARGS, "context": CONTEXTS, "history": ("history",),
    "documents": ("documents",), "completion": COMPLETIONS,
}  # fmt: skip
"""Names of the columns that only some rows may fill, by the part they play."""
_WATCHED = ("documents", "completion")
"""Parts that a later row cannot bring in: other rows, or columns of another sense, would be read wrongly."""


def _with_late(
    dialect: Dialect, columns: Columns, used: Sequence[str], names: Sequence[str], records: Sequence[SourceRow]
) -> Columns:
    """The columns with those that no record which fits fills and another row may: read, or watched for what is lost."""
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
    """The parts that the dialect reads and no row has, as far as they may be missing."""
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
    """The type of data set that a dialect of this name makes of these columns."""
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
    """The source columns that `convert` must get where there are any: those of the parts, kept ones, late ones.

    An empty tuple means all columns: the rows speak different dialects, or all are kept.
    """
    columns = detection.columns
    if columns.keep == "all" or detection.dialect == "mixed":
        return ()
    return tuple(dict.fromkeys((*detection.used, *columns.keep, *columns.late.values(), *columns.watched)))
