"""Looking before converting: what a source holds, rows before and after, every problem a conversion would meet."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field, to_builtins
from msgspec.structs import asdict, replace

from .. import checks, executors, sources
from ..errors import ChatfmtError, Location, NoDialect, RowError, TemplateError
from ..json_columns import JSON, decode_objects, for_people, is_turns
from ..recipe import Recipe, Run
from ..render import RenderOptions
from ..render.inspection.diff import Difference, compare
from ..render.inspection.sample_conversations import usual_conversations
from ..render.masks.masker import WHOLE_TURNS, to_chats
from ..render.safety.control_tokens import find_control_tokens
from ..render.single import Chat
from ..render.template.chat_template import ChatTemplate
from ..render.trace.program import Untraceable, describe
from ..render.trace.tracer import Inputs, trace
from ..schema import CONVERSATION_COLUMNS, KEYS, REASONING_FIELDS, ROW
from ..sources import Source
from ..validation import default_of
from ..views import VIEWS, is_rendered
from ..views.batch import RenderableBatch, whole_conversations
from .conversion.kept_columns import kept_notes
from .conversion.row_counts import RowCounts
from .conversion.stages import Conversion, place_of, record_of
from .conversion.task import merge_batches, output_batches, row_number, row_order, split_rows, with_position
from .planning.fingerprint import columns_to_plain
from .planning.inputs import open_source
from .planning.jobs import has_nulls, load_template, render_options, to_job
from .planning.scratch import Scratch
from .planning.source_plan import SourcePlan, check_views, plan_source
from .planning.target import target_of
from .schedule import run_tasks


class Spread(Struct, frozen=True):
    """The smallest, middle and largest of some numbers."""

    smallest: int
    median: int
    largest: int


class Inspection(Struct, frozen=True):
    """What a sample of a source holds and how it is read; `problem` says why it cannot be, then `detection` is None."""

    source: str
    kind: str
    dataset: str | None
    revision: str | None
    subset: str | None
    licence: str | None
    splits: Mapping[str, int]
    """How many files each split has."""
    rows_seen: int
    columns: Sequence[Mapping[str, Any]]
    detection: Mapping[str, Any] | None = None
    problem: str | None = None
    hint: str | None = None
    roles: Mapping[str, int] = field(default_factory=dict)
    turns: Spread | None = None
    characters: Spread | None = None
    findings: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    """What converting it will say first."""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data, keys in order."""
        return {"schema": 1, **to_builtins(self)}


def inspect(recipe: Recipe, scratch: Scratch) -> list[Inspection]:
    """What each source of the recipe holds, judged by up to 1000 of its rows."""
    found = []
    for spec in recipe.source:
        with open_source(recipe, spec, scratch) as reader:
            found.append(inspect_source(recipe, reader.source, reader.sample))
    return found


def inspect_source(recipe: Recipe, source: Source, sample: Sequence[pa.RecordBatch]) -> Inspection:
    """What the sample says of the source."""
    plain = Inspection(
        source=source.shown,
        kind=source.kind,
        dataset=source.dataset_id,
        revision=source.revision,
        subset=source.subset,
        licence=source.licence,
        splits={split: len(files) for split, files in source.splits.items()},
        rows_seen=sum(len(batch) for batch in sample),
        columns=describe_columns(sample),
    )
    try:
        job, detection = to_job(recipe, sample, None, target_of(None, "jsonl", None), nulls=has_nulls(source))
    except NoDialect as error:
        return replace(plain, problem=error.message, hint=error.hint)
    found: list[checks.Finding] = []
    conversion, counts = Conversion(job, lambda finding, at: found.append(finding)), RowCounts()
    made = [
        output
        for batch in sample
        for output in conversion.convert(batch, source.shown, counts, lambda error, raw: None)
    ]
    return replace(
        plain,
        detection={**asdict(detection), "columns": columns_to_plain(detection.columns)},
        roles=dict(sum((roles(batch) for batch in made), Counter[str]()).most_common()),
        turns=spread(length for batch in made for length in lengths(batch)),
        characters=spread(count for batch in made for count in characters(batch)),
        findings={**counts.findings, **counts.reasons},
        notes=[*source.notes, *kept_notes(job, detection)],
        command=command(recipe, source, job.dialect, rendering(recipe, detection.type, made)),
    )


def describe_columns(sample: Sequence[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Name, type in words, how many rows have it, and the first value, of each column."""
    names = dict.fromkeys(name for batch in sample for name in batch.schema.names if name not in (ROW, KEYS))
    described = []
    for name in names:
        columns = [batch.column(name) for batch in sample if name in batch.schema.names]
        filled = sum(len(column) - column.null_count for column in columns)
        kinds = dict.fromkeys(
            kind for column in columns if column.null_count < len(column) for kind in types_in_words(column)
        )
        described.append(
            {"name": name, "type": " or ".join(kinds) or "null", "filled": filled, "example": example(columns)}
        )
    return described


def types_in_words(column: pa.Array) -> list[str]:
    """The type of a column as people call it; of JSON those of its values, nulls left aside."""
    if column.type != JSON:
        return [type_in_words(column.type)]
    starts = [
        start for start in pc.unique(pc.utf8_slice_codeunits(column, 0, 1)).to_pylist() if start not in (None, "n")
    ]
    return list(dict.fromkeys(_STARTS.get(start, "number") for start in starts)) or ["null"]


_STARTS = {"{": "object", "[": "list", '"': "text", "t": "true/false", "f": "true/false"}
"""What JSON text is by its first character; the rest are numbers."""


def type_in_words(kind: pa.DataType) -> str:
    """A type of Arrow as people call it: the names of an object's keys, but not what is in them."""
    if pa.types.is_struct(kind):
        return "{" + ", ".join(item.name for item in kind if item.name != KEYS) + "}"
    if pa.types.is_list(kind):
        return f"list of {type_in_words(kind.value_type)}"
    return {pa.string(): "text", JSON: "JSON", pa.bool_(): "true/false"}.get(kind, str(kind))


def example(columns: Sequence[pa.Array]) -> Any:
    """The first value there is, as plain data."""
    for column in columns:
        valid = column.drop_null() if not pa.types.is_null(column.type) else column.slice(0, 0)
        if len(valid):
            return for_people(decode_objects({"value": valid.slice(0, 1)})[0].get("value"))
    return None


def turns_of(batch: pa.RecordBatch) -> Iterator[pa.ListArray]:
    """The messages columns of an output batch."""
    for name in CONVERSATION_COLUMNS:
        if name in batch.schema.names and is_turns(batch.column(name).type):
            yield batch.column(name)


def roles(batch: pa.RecordBatch) -> Counter[str]:
    """How many turns each role has in the batch."""
    return sum((count_by_role(column) for column in turns_of(batch)), Counter[str]())


def lengths(batch: pa.RecordBatch) -> list[int]:
    """The turns of each row, of all its messages columns together."""
    counts = [column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for column in turns_of(batch)]
    return [int(count) for count in sum(counts, np.zeros(len(batch), int))] if counts else []


def characters(batch: pa.RecordBatch) -> list[int]:
    """The characters of the text of each row: of what its turns say, and of text outside of turns."""
    total = np.zeros(len(batch), int)
    for column in turns_of(batch):
        flat = column.flatten()
        if flat.type.get_field_index("content") >= 0 and flat.field("content").type != JSON:
            add_characters(total, column, pc.struct_field(flat, "content"))
    for name in ("text", "completions"):
        column = batch.column(name) if name in batch.schema.names else pa.nulls(len(batch))
        if pa.types.is_list(column.type) and column.type.value_type == pa.string():
            add_characters(total, column, column.flatten())
        elif column.type == pa.string():
            total += pc.utf8_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return [int(count) for count in total]


def add_characters(total: np.ndarray[Any, Any], lists: pa.ListArray, texts: pa.StringArray) -> None:
    """Add to the `total` of each row the characters of its `texts`, the items of its list."""
    sizes = pc.utf8_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lists)), lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    np.add.at(total, rows, sizes)


def spread(numbers: Iterator[int]) -> Spread | None:
    """The spread of the numbers, None of none."""
    ordered = sorted(numbers)
    return Spread(ordered[0], ordered[len(ordered) // 2], ordered[-1]) if ordered else None


def rendering(recipe: Recipe, type: str, made: Sequence[pa.RecordBatch]) -> list[str]:
    """The words that name a template which prints all that the conversations hold; none for text that is complete."""
    if recipe.template is not None or is_rendered(type):
        return ["-t", recipe.template] if recipe.template else []
    turns = [column.flatten() for batch in made for column in turns_of(batch)]
    said = {name for turn in turns for name in turn.type.names if turn.field(name).null_count < len(turn)}
    beside = any("tools" in batch.schema.names for batch in made)
    if beside or not said.isdisjoint(("tool_calls", *REASONING_FIELDS)):
        return ["-t", "qwen3", "--fit"]
    listed = any(turn.field("content").type == JSON for turn in turns if "content" in turn.type.names)
    return ["-t", "chatml", "--fit"] if listed else ["-t", "chatml"]


def command(recipe: Recipe, source: Source, dialect: str, rendered: Sequence[str]) -> str:
    """The command that converts the source as it was inspected, `rendered` as those words say."""
    given = recipe.source[0].source
    words = ["chatfmt", "convert", given]
    if source.subset and recipe.name is None and source.kind == "hub":
        words += ["--name", source.subset]
    words += ["--dialect", dialect] if recipe.dialect != "auto" else []
    words += [word for key, flag in READING.items() for word in flags(flag, getattr(recipe, key), key)]
    stem = (source.dataset_id or given).rstrip("/").split("/")[-1].split(".")[0] or "stdin"
    form = rendered[1].split("/")[-1] if rendered else "text"
    return shlex.join([*words, *rendered, "-o", f"{'stdin' if stem == '-' else stem}-{form}/"])


READING = {
    **{key: "--" + key.replace("_", "-") for key in (
        "name", "split", "revision", "data_files", "data_dir", "field", "header", "quote", "delimiter", "encoding",
        "map", "role", "roles", "marker", "explode", "where", "keep",
    )},
    "dialect_options": "--dialect-option", "transforms": "--transform", "from_rejects": "--from-rejects",
}  # fmt: skip
"""The keys of a recipe that say how a source is read, and their flags."""


DEFAULTS = {key.name: default_of(key) for key in dataclasses.fields(Recipe)}


def flags(flag: str, value: Any, key: str) -> list[str]:
    """The words that spell a value of a recipe on the command line, none for its default."""
    if value == DEFAULTS[key]:
        return []
    if isinstance(value, Mapping):
        texts = {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}
        return [word for name, text in texts.items() for word in (flag, f"{name}={text}")]
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if key == "roles":
        return [flag, ",".join(value)]
    return [word for item in (value if isinstance(value, tuple) else (value,)) for word in (flag, str(item))]


class Shown(Struct, frozen=True):
    """One row before and after: the record, the output columns, and the spans of trained text in `text`."""

    row: int
    record: Mapping[str, Any]
    output: Sequence[Mapping[str, Any]]
    spans: Sequence[Sequence[int]] | None = None
    problem: str | None = None
    tokens: Sequence[str] = ()
    """The control tokens of the template."""
    raw: str | None = None
    """The text of a record that cannot be read; `record` is empty then."""
    rows: int = 1
    """How many rows of the source the output was made of together, all of which were read; `record` is one of them."""


def preview(recipe: Recipe, count: int, scratch: Scratch) -> list[Shown]:
    """The first `count` rows of the first source, each converted by itself; a row that fails says why.

    Where conversations are spread over the rows of a file the file is read whole, and `count` conversations are shown.
    """
    template, target = load_template(recipe), target_of(None, "jsonl", None)
    few = dataclasses.replace(recipe, limit=count)
    part = plan_source(few, recipe.source[0], template, target, scratch)
    if part.job.whole_file:
        part = plan_source(recipe, recipe.source[0], template, target, scratch)
    with closing(executors.in_worker(_previewed, part)) as rows:
        return list(islice(rows, count))


def _previewed(part: SourcePlan) -> Iterator[Shown]:
    masked = part.job.template is not None and part.job.view and VIEWS[part.job.view].takes_mask
    conversion = Conversion(replace(part.job, mask=WHOLE_TURNS) if masked else part.job)
    for split in (split for shard in part.shards for split in shard):
        bad: list[Shown] = []
        batches = sources.read(split, columns=None, on_bad=partial(keep_unreadable, bad))
        if part.job.whole_file:
            for batch in with_position(merge_batches(batches), split):
                yield from preview_whole(conversion, batch, split.shown)
            continue
        for batch in with_position(batches, split):
            good = (preview_row(conversion, row, split.shown) for row in split_rows(batch))
            yield from merge(bad[:], good, key=lambda shown: shown.row)
            bad.clear()
        yield from bad


def keep_unreadable(kept: list[Shown], error: RowError, raw: bytes) -> None:
    """Keep a record that cannot be read, with the reason."""
    text = raw.decode(errors="backslashreplace")
    kept.append(Shown(error.at.row or 0, {}, (), problem=in_words(error), raw=text))


def in_words(error: ChatfmtError) -> str:
    """An error and its hint on one line."""
    return f"{error}" + (f" (hint: {error.hint})" if error.hint else "")


def preview_row(conversion: Conversion, row: pa.RecordBatch, file: str) -> Shown:
    """One row before and after."""
    number = row_number(row, 0)
    try:
        made = list(conversion.convert(row, file, RowCounts()))
    except ChatfmtError as error:
        return Shown(number, for_people(record_of(row)), (), problem=in_words(error))
    return shown_as(conversion, number, record_of(row), [out for batch in made for out in outputs_of(batch)])


def preview_whole(conversion: Conversion, batch: pa.RecordBatch, file: str) -> Iterator[Shown]:
    """The conversations that the rows of a file make together, each beside the row that it is counted under."""
    try:
        numbers = conversion.conversations(batch, file).column("row")
        made = [out for each in conversion.convert(batch, file, RowCounts()) for out in outputs_of(each)]
    except ChatfmtError as error:
        row = batch.slice(0 if error.at.row is None else max(place_of(error.at.row, batch), 0), 1)
        yield Shown(row_number(row, 0), for_people(record_of(row)), (), problem=in_words(error), rows=len(batch))
        return
    for place, output in enumerate(made):
        number = int(numbers[place * len(numbers) // len(made)].as_py())
        row = batch.slice(place_of(number, batch), 1)
        yield replace(shown_as(conversion, number, record_of(row), [output]), rows=len(batch))


def shown_as(conversion: Conversion, number: int, record: Mapping[str, Any], output: Sequence[dict[str, Any]]) -> Shown:
    """A row that was converted, the spans of its text apart."""
    spans = output[0].pop("assistant_spans", None) if output else None
    template = conversion.job.template
    return Shown(number, for_people(record), output, spans, tokens=find_control_tokens(template) if template else ())


def outputs_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of an output batch as data to be looked at."""
    rows = decode_objects(dict(zip(batch.schema.names, batch.columns, strict=True)))
    return [for_people(row) for row in rows]


class Trouble(Struct, frozen=True):
    """One thing that a conversion would meet: `kind` is `error` (the row cannot be converted) or `warning`."""

    code: str
    kind: str
    at: Location
    detail: str
    hint: str = ""


def check(recipe: Recipe, scratch: Scratch, workers: int = 1) -> tuple[list[Trouble], RowCounts]:
    """Everything that converting all rows would meet, in order, and what became of the rows; nothing is written."""
    troubles: list[Trouble] = []
    counts = RowCounts()
    template, target = load_template(recipe), target_of(None, "jsonl", None)
    parts = [plan_source(recipe, spec, template, target, scratch) for spec in recipe.source]
    check_views(parts)
    for part in parts:
        met, kept = check_part(part, workers)
        troubles += met
        counts.add(kept)
    return troubles, counts


def check_part(part: SourcePlan, workers: int) -> tuple[list[Trouble], RowCounts]:
    """What the rows of a source would meet, shard by shard."""
    troubles: list[Trouble] = []
    counts = RowCounts()
    tasks = [Checking(replace(part, shards=(shard,), first_rows=None)) for shard in part.shards]
    with closing(run_tasks(_checked, tasks, Run(workers=workers))) as found:
        for more, kept in found:
            troubles += more
            counts.add(kept)
    return [*troubles, *unplaced(counts, {trouble.code for trouble in troubles}, part.source.shown)], counts


class Checking(Struct, frozen=True):
    """The rows of one shard, to be looked through."""

    part: SourcePlan

    @property
    def name(self) -> str:
        """The file that they begin in."""
        return self.part.shards[0][0].shown


def _checked(task: Checking) -> tuple[list[Trouble], RowCounts]:
    part = task.part
    try:
        return _looked_through(part)
    except TemplateError as error:  # a text that the template loses ends a conversion; here it is one problem of many
        troubles, counts = _looked_through(replace(part, job=replace(part.job, allow_loss=("all",))))
        detail = f"{error.message}; later rows may lose more"
        return [Trouble(error.code or "template.loss", "error", error.at, detail, error.hint), *troubles], counts


def _looked_through(part: SourcePlan) -> tuple[list[Trouble], RowCounts]:
    troubles: list[Trouble] = []
    counts = RowCounts()

    def on_finding(finding: checks.Finding, at: Location) -> None:
        known = checks.CHECKS[finding.code]
        troubles.append(Trouble(finding.code, known.kind, at, finding.detail, known.hint))

    conversion = Conversion(part.job, on_finding)
    for split in (split for shard in part.shards for split in shard):
        before = len(troubles)

        def on_reject(error: RowError, raw: bytes | None, file: str = split.shown) -> None:
            at = replace(error.at, file=error.at.file or file)
            troubles.append(Trouble(error.code, "error", at, error.message, error.hint))

        for _ in output_batches((split,), conversion, counts, on_reject):
            pass
        # a batch is read whole before it is converted: records that cannot be read come after it
        troubles[before:] = sorted(troubles[before:], key=lambda trouble: row_order(trouble.at))
    return troubles, counts


def unplaced(counts: RowCounts, placed: Collection[str], source: str) -> Iterator[Trouble]:
    """What was counted without its rows."""
    for code, count in counts.findings.items():
        if code not in placed and code in checks.CHECKS:
            known = checks.CHECKS[code]
            yield Trouble(code, known.kind, Location(source), f"in {count} of the rows", known.hint)


def conversations(recipe: Recipe, scratch: Scratch) -> Iterator[Chat]:
    """The conversations of the recipe's sources, transformed but not rendered, with what belongs to each."""
    for spec in recipe.source:
        part = plan_source(recipe, spec, None, target_of(None, "jsonl", None), scratch)
        conversion = Conversion(part.job)
        for split in (split for shard in part.shards for split in shard):
            for batch in sources.read(split, columns=part.job.read):
                made = RenderableBatch(conversion.conversations(batch, split.shown), None)
                chats = to_chats(made.with_messages(whole_conversations(made)))
                yield from (chat for chat in chats if chat is not None)


def difference(recipe: Recipe, first: ChatTemplate, second: ChatTemplate, scratch: Scratch) -> Difference:
    """How two templates render the conversations of the recipe."""
    return compare(first, second, conversations(recipe, scratch), render_options(recipe))


def programs(template: ChatTemplate, options: RenderOptions) -> list[tuple[str, str]]:
    """What the traced engine makes of ordinary conversations: their roles, and the program or why there is none."""
    shown = []
    for chat in usual_conversations():
        variables = {**template.special_tokens, **options.variables}
        given = Inputs(chat.messages, chat.tools, None, options.generation_prompt, variables, options.date)
        found = trace(template.choose(chat.tools), given, deep=True)
        said = " ".join(str(turn["role"]) for turn in chat.messages) + (" with tools" if chat.tools else "")
        shown.append((said, found.reason if isinstance(found, Untraceable) else describe(found)))
    return shown


def count_by_role(messages: pa.ListArray) -> Counter[str]:
    """How many turns each role has."""
    counted = pc.value_counts(pc.struct_field(messages.flatten(), "role"))
    return Counter({item["values"]: item["counts"] for item in counted.to_pylist()})
