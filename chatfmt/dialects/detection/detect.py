"""Detect the dialect of a dataset from a sample of its rows, or explain why it cannot be detected."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ... import schema
from ...errors import Location, NoDialect, UnknownName
from ...field_path import top_level
from ...json_columns import dumps
from ...lazy import on_call
from ..dialect import Dialect
from ..kit.columns import SIDE_PARTS, Columns, SourceRow, columns_named, records_of
from ..kit.labels import label_of
from ..kit.names import COMPLETIONS, CONTEXTS, HISTORY, LABELS, MEDIA_COLUMNS, REASONING, SYSTEM, TEMPLATE_KWARGS, TOOLS
from .alternatives import left_as_text, other_dialects, rendered_question
from .record_reader import Reading, RecordReader

ambiguous_hint, empty_conversation, no_dialect, no_turns, rows_differ, types_differ = (
    on_call(__package__, f".no_dialect:{name}")
    for name in ("ambiguous_hint", "empty_conversation", "no_dialect", "no_turns", "rows_differ", "types_differ")
)
"""Only rows that no dialect fits need the patterns and words of the hints."""


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
    rendered: str = ""
    """What `--map text=` reads of questions that are rendered text."""


class _Sample(Struct, frozen=True):
    """The rows that were looked at, the names of their columns, and how each row was read."""

    names: tuple[str, ...]
    records: Sequence[SourceRow]
    readings: Sequence[Reading | None]

    def found(self) -> list[Reading]:
        return [reading for reading in self.readings if reading is not None]

    def count_empty(self, columns: Columns) -> int:
        """Return how many rows are no more than a conversation without turns."""
        unread = (record for record, reading in zip(self.records, self.readings, strict=True) if reading is None)
        return sum(empty_conversation(record, columns) is not None for record in unread)

    def fitting(self) -> list[SourceRow]:
        return [record for record, reading in zip(self.records, self.readings, strict=True) if reading is not None]


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
    names = tuple(dict.fromkeys(key for batch in batches for key in batch.schema.names if key not in _OWN))
    _check_kept(columns, names if records else ())
    columns = _without_categories(records, columns)
    candidates = detectable(registry, columns) if name in ("auto", "mixed") else with_covered(registry, name)
    readings = drop_bare_results(_read(candidates, columns, records))
    sample = _Sample(names, records, drop_incomplete(registry, readings, columns) if name == "auto" else readings)
    found = sample.found()
    if len(records) == (empty := sample.count_empty(columns)) and records:
        raise no_turns(batches, columns)
    if name in registry and registry[name].parses_text and name not in {reader for reader, _ in found}:
        found = []
    chosen = name != "auto" or not columns.parts() <= SIDE_PARTS  # by the user: rows that it does not fit are bad
    if not found or (2 * len(found) < len(records) - empty and not chosen):
        fits = None if name == "auto" else fitting_dialect(registry, batches, columns)
        raise no_dialect(names, records, columns, shown or {}, name, Counter(each for each, _ in found), fits)
    dialect, parts = choose_dialect(found, candidates, name) if name != "mixed" else (name, {})
    if dialect != "mixed":
        return _detection(registry, dialect, columns.adding(parts), sample, shown or {})
    if name not in ("auto", "mixed"):
        raise rows_differ([parts for _, parts in found])
    types = types_of(registry, found, columns)
    if len(types) > 1 and name == "auto":
        kinds = (None if read is None else next(iter(types_of(registry, [read], columns))) for read in sample.readings)
        raise types_differ(types, zip(_places(batches), kinds, strict=True))
    return _mixed_detection(registry, columns, sample, types.most_common(1)[0][0])


_OWN = (schema.ROW, schema.KEYS)
"""Columns of a source batch that are not of the source."""


def _read(candidates: Mapping[str, Dialect], columns: Columns, records: Sequence[SourceRow]) -> list[Reading | None]:
    """Return how each record is read, None for one that no candidate fits; raises NoDialect for an ambiguous part."""
    try:
        return list(map(RecordReader(candidates, columns), records))
    except NoDialect as error:
        error.hint = ambiguous_hint(error, records, columns)
        raise


def _places(batches: Sequence[pa.RecordBatch]) -> Iterator[Location]:
    for batch in batches:
        file = (batch.schema.metadata or {}).get(schema.FILE, b"").decode()
        yield from (Location(file, row) for row in batch.column(schema.ROW).to_pylist())


def fitting_dialect(registry: Mapping[str, Dialect], batches: Sequence[pa.RecordBatch], columns: Columns) -> str | None:
    """Return the dialect that fits the rows, if one does."""
    try:
        return detect_dialect(registry, batches, columns).dialect
    except NoDialect:
        return None


def with_covered(registry: Mapping[str, Dialect], name: str) -> dict[str, Dialect]:
    """Return a dialect that is used by name, and those whose rows it reads too."""
    others = sorted(registry[name].covers, key=list(registry).index)
    return {each: registry[each] for each in (name, *others)}


def _without_categories(records: Sequence[SourceRow], columns: Columns) -> Columns:
    """Return the columns with labels ignored if a column named like one holds anything but good and bad."""
    known = dict.fromkeys(name for record in records for name in columns_named(record, LABELS))
    names = [name for name in known if any(record.get(name) is not None for record in records)]
    values = [record[names[0]] for record in records if record.get(names[0]) is not None] if names else []
    if columns.path("label") is not None or all(label_of(value) is not None for value in values):
        return columns
    return replace(columns, options={"label": "ignore", **columns.options})


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
    return {
        name: dialect if dialect.is_sure is None else replace(dialect, find_parts=dialect.find_surely)
        for name, dialect in registry.items()
        if not dialect.opt_in
        and mapped <= dialect.parts
        and ("reasoning" not in columns.parts() or dialect.type not in _WITHOUT_REASONING)
    }


_WITHOUT_REASONING = ("preference", "stepwise", "segments", "text")
"""Types without one answer that reasoning could belong to."""


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


RARE = 4
"""One row in so many may lack a part that makes it of the type of the others, and is then a bad one."""


def drop_incomplete(
    registry: Mapping[str, Dialect], readings: Sequence[Reading | None], columns: Columns
) -> list[Reading | None]:
    """Set readings to None of rare rows of another type that have only some of the parts of the most frequent one."""
    keys = [None if each is None else (each[0], frozenset(each[1].items())) for each in readings]
    counts = Counter(filter(None, keys))
    kinds = {key: types_of(registry, [(key[0], dict(key[1]))], columns) for key in counts if len(counts) > 1}
    most = max(counts, key=counts.__getitem__, default=("", frozenset[tuple[str, str]]()))
    fewer = {key for key, kind in kinds.items() if key[1] < most[1] and kind != kinds[most]}
    rare = RARE * sum(counts[key] for key in fewer) <= counts.total()
    return [None if rare and key in fewer else reading for key, reading in zip(keys, readings, strict=True)]


def choose_dialect(
    found: Sequence[Reading], candidates: Mapping[str, Dialect], asked: str
) -> tuple[str, dict[str, str]]:
    """Return the dialect that reads all rows, the one `asked` for if it is one, and the parts of all readings.

    It is `mixed` if none does.
    """
    names = dict.fromkeys(name for name, _ in found)
    for name in names if asked == "auto" else (asked,):
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
    registry: Mapping[str, Dialect], name: str, columns: Columns, sample: _Sample, shown: Mapping[str, str]
) -> Detection:
    dialect, used, fitting = registry[name], _used(columns, sample), sample.fitting()
    rendered, notes = rendered_question(name, columns, sample.records)
    return Detection(
        dialect=name,
        columns=_with_late(dialect, columns, used, sample.names, fitting),
        rows_seen=len(sample.records),
        rows_fit=len(fitting),
        reason=_reason(dialect, columns, sample, shown),
        used=used,
        unused=_unused(columns, used, sample.names),
        others=other_dialects(registry, name, columns, sample.records),
        type=type_of(dialect, name, columns),
        whole_file=dialect.whole_file,
        left=(*left_as_text(registry, name, columns, sample.records), *notes),
        rendered=rendered,
    )


def _mixed_detection(registry: Mapping[str, Dialect], columns: Columns, sample: _Sample, type: str) -> Detection:
    used, found = _used(columns, sample), sample.found()
    counts = Counter(name for name, _ in found).most_common()
    _, notes = rendered_question("mixed", columns, sample.records)
    return Detection(
        dialect="mixed",
        columns=replace(columns, type=type),
        rows_seen=len(sample.records),
        rows_fit=len(found),
        reason="rows in different dialects: " + ", ".join(f"{count} {name}" for name, count in counts),
        used=used,
        unused=_unused(columns, used, sample.names),
        type=type,
        left=(*left_as_text(registry, "mixed", columns, sample.records), *notes, *_partly_read(columns, sample, used)),
    )


def _partly_read(columns: Columns, sample: _Sample, used: Sequence[str]) -> Iterator[str]:
    """Yield a note on each column that some rows are read from and that holds something else in others."""
    rows = list(zip(sample.records, sample.readings, strict=True))
    for name in used if columns.keep != "all" else ():
        left = sum(_leaves(name, record, reading) for record, reading in rows)
        if left and name not in columns.keep:
            keep = f"--keep {shlex.quote(name)} copies it to the output"
            yield f"`{name}` is read in some of the sampled rows and left behind in {left} of {len(rows)}: {keep}"


def _leaves(name: str, record: SourceRow, reading: Reading | None) -> bool:
    """Return whether a row is read without what it has in a column, and has it nowhere else."""
    value = record.get(name)
    if reading is None or value in _NOTHING:
        return False
    paths = [path.removesuffix("[]") for part, path in reading[1].items() if "." not in part]
    if name in (top_level(path, tuple(record)) for path in paths):
        return False
    text = dumps(value).strip('"')
    return not any(text in dumps(other) for key, other in record.items() if key != name)


LATE_COLUMNS: dict[str, Sequence[str]] = {
    "system": SYSTEM, "tools": TOOLS, "template_kwargs": TEMPLATE_KWARGS, "context": CONTEXTS, "history": HISTORY,
    "documents": ("documents",), "completion": COMPLETIONS, "reasoning": REASONING,
    **MEDIA_COLUMNS,
}  # fmt: skip
"""Names of columns that only some rows may fill, by part."""
_WATCHED = ("documents", "completion", "reasoning", *MEDIA_COLUMNS)
"""Parts that are not read from later rows, because the column may mean something else; such rows are errors."""


def _with_late(
    dialect: Dialect, columns: Columns, used: Sequence[str], names: Sequence[str], records: Sequence[SourceRow]
) -> Columns:
    """Add the columns that are empty in the sample but may be filled later: to read, or to watch so nothing is lost."""
    if dialect.type in ("text", "segments"):
        return columns
    filled = {name for record in records for name, value in record.items() if value not in _NOTHING}
    in_use = {*used, *filled, *(() if columns.keep == "all" else columns.keep)}
    late: dict[str, str] = {}
    watched: dict[str, str] = {}
    for part in _open_parts(dialect, columns):
        free = sorted((name for name in LATE_COLUMNS[part] if name not in in_use), key=lambda name: name not in names)
        late |= {part: free.pop(0)} if free and part not in _WATCHED else {}
        watched |= dict.fromkeys(free, part)
    return replace(columns, late=late, watched=watched)


def _open_parts(dialect: Dialect, columns: Columns) -> list[str]:
    """Return the optional parts that the dialect reads and no sampled row has."""
    asked = {"context", "history"} if columns.path("prompt") is not None else frozenset()
    optional = SIDE_PARTS | (dialect.parts & asked)
    optional -= {"reasoning"} if dialect.type in _WITHOUT_REASONING else set()
    optional |= {"completion"} if dialect.type == "prompt-only" else frozenset()
    return [part for part in LATE_COLUMNS if part in optional and columns.path(part) is None]


_NOTHING: tuple[object, ...] = (None, "", [], {}, "[]", "{}")


def _used(columns: Columns, sample: _Sample) -> tuple[str, ...]:
    """Return the source columns that hold parts."""
    paths = [path for part, path in columns.fields.items() if "." not in part]
    if not paths:
        paths = [path for _, parts in sample.found() for part, path in parts.items() if "." not in part]
    names = (top_level(path.removesuffix("[]"), sample.names) for path in paths)
    return tuple(dict.fromkeys(name for name in names if name in sample.names))


def _unused(columns: Columns, used: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the source columns that are neither used nor kept."""
    kept = {*names} - {*schema.CONVERSATIONS} if columns.keep == "all" else {*columns.keep}
    taken = kept.union(used)
    return tuple(name for name in names if name not in taken)


def _reason(dialect: Dialect, columns: Columns, sample: _Sample, shown: Mapping[str, str]) -> str:
    paths = {part: shown.get(path, path) for part, path in columns.fields.items() if "." not in part}
    parts = ", ".join(f"{part}: `{path}`" for part, path in paths.items())
    rows, fit = len(sample.records), len(sample.found())
    checked = f"fits {fit} of {rows}" if fit < rows else f"checked {rows}"
    return f"{dialect.summary}; {parts} ({checked} {'row' if rows == 1 else 'rows'})"


def type_of(dialect: Dialect, name: str, columns: Columns) -> str:
    """Return the dataset type that a dialect makes of these columns."""
    if columns.path("chosen") is not None or columns.options.get("paths") == "pairs":
        return "preference"
    if columns.path("label") is not None and dialect.type != "stepwise":
        return "unpaired-preference"
    if dialect.type == "prompt-only" and columns.path("completion") is not None:
        return "prompt-completion"
    flat = (columns.path("prompt"), columns.path("completion")) == ("prompt", "completion")
    return "prompt-completion" if flat and name == "prompt-completion" else dialect.type


def used_columns(detection: Detection) -> tuple[str, ...]:
    """Return the source columns that `convert` needs: those of parts, kept ones, late ones.

    An empty tuple means all columns: the rows are in different dialects, or all columns are kept.
    """
    columns = detection.columns
    if columns.keep == "all" or detection.dialect == "mixed":
        return ()
    return tuple(dict.fromkeys((*detection.used, *columns.keep, *columns.late.values(), *columns.watched)))
