"""Account for the leaves of a sample, and refuse to leave behind what looks like part of the conversation."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import pyarrow as pa
from msgspec.structs import replace

from ... import dialects
from ...dialects import Detection
from ...dialects.detection.preference_hints import opposites
from ...dialects.kit.columns import ALIASES, joined_texts
from ...errors import ChatfmtError, RowError, UsageError
from ...field_path import Every, FieldPath, Step, path_of, top_level
from ...mapping.names import names_needed
from ...mapping.plan import FieldMapping
from ...media import MEDIUM_KEYS
from ...recipe import Recipe
from ...schema import MEDIA, TRAIN_DETAILS, TRAIN_KEYS
from ..conversion.job import Job
from ..conversion.source_rows import merge_batches, split_rows
from ..conversion.stages import Conversion
from ..ledger.ledger import PRINTED, Leaf, Ledger, flag_to_drop, flag_to_read
from ..ledger.read_items import ReadItems, read_items
from ..ledger.suspects import PHRASES, is_blame, part_named, words_of

_CHOICES = {
    "messages": ("messages", "history"), "transcript": ("messages", "history"), "text": tuple(PHRASES),
    "segments": tuple(PHRASES), "chosen": ("completion",), "rejected": ("completion",), "question": ("prompt",),
    "ratings": ("label",),
}  # fmt: skip
"""The parts that other columns may look like if one is mapped to the part, besides that part."""


_NAMED = 10
"""The leaves that an error names: for each flag it plans the sample anew."""


def open_ledger(recipe: Recipe, detection: Detection, job: Job) -> Ledger:
    """Return the ledger of a job, without any leaf yet."""
    mapped = {ALIASES.get(name, name) for name in recipe.map}
    waived = mapped.union(*(_CHOICES.get(name, ()) for name in mapped))
    if recipe.to == "prompt" or recipe.dialect == "prompt-only":
        waived |= {"completion", "reasoning", "label"}
    if detection.type in ("text", "segments"):
        waived |= PHRASES.keys()
    media = (recipe.map[name] for name in MEDIA if name in recipe.map)  # perhaps not in the sample
    late = (*job.columns.late.values(), *job.columns.watched, *media)
    read = recipe.map if recipe.order_by is None else {**recipe.map, "messages.order": recipe.order_by}
    where = names_needed(recipe.condition or "", expression=True) if recipe.explode else ()
    decisive = dialects.DIALECTS[job.dialect].decided_by
    of_dialect = {recipe.explode, *(top_level(path, detection.used) for path in job.columns.fields.values())}
    copied = job.columns.keep == "all" and detection.dialect != "mixed"  # what only the mapping reads is kept too
    return Ledger(
        open=True,
        used=frozenset({*detection.used} & of_dialect if copied else detection.used).union(late),
        keep=job.columns.keep,
        drop=recipe.drop,
        exploded=recipe.explode or "",
        items=items_read(job),
        mapped=frozenset((f"[].{path}" if "." in name else path).rstrip("[]") for name, path in read.items()).union(
            (path for path in job.columns.fields.values() if "[]." in path), (f"[].{name}" for name in where)
        ),
        role_key=recipe.map.get("messages.role", ""),
        roles=dict(recipe.role_names),
        decisive=frozenset() if {*job.columns.fields, *job.columns.options} & {"ratings", "ranked"} else decisive,
        waived=frozenset(waived),
        printed=printed_keys(job),
        printed_inside=keys_read(job),
        together=job.whole_file,
    )


def items_read(job: Job) -> ReadItems:
    """Return the lists of which a job reads some items only, as in `a[0]`, for a part or inside turns."""
    fields = job.mapping or FieldMapping()
    detected = {part: path for part, path in job.columns.fields.items() if part not in fields.columns}
    found = {part: path.steps for part, path in fields.fields if isinstance(path, FieldPath)}
    found |= {part: path_steps(path) for part, path in detected.items() if "." not in part}
    turns = found.get("messages", ("messages",))
    each = turns if Every.ITEM in turns else (*turns, Every.ITEM)
    inside = [(*each, *path_steps(path)) for part, path in detected.items() if part.startswith("messages.")]
    return read_items([*fields.steps, *found.values()]).joined(read_items(inside))


def path_steps(text: str) -> tuple[Step, ...]:
    """Return the steps of a path, or the one of a column whose name is not a path."""
    path = path_of(text)
    return (text,) if path is None else path.steps


def printed_keys(job: Job) -> frozenset[str] | None:
    """Return the keys of turns that the template of a job may print; None if turns are written as they are."""
    if job.template is None or job.view == "messages":
        return None
    text = "\n".join(job.template.texts)
    turns = "|".join({"message", *re.findall(r"\bfor\s+(\w+)\s+in\s+[\w.\[\]:]*messages", text)})
    read = re.findall(rf"\b(?:{turns})(?:\.get\(\s*['\"]|\.|\[\s*['\"])(\w+)", text)
    return PRINTED.union(read, () if job.mask is None else TRAIN_KEYS)


def keys_read(job: Job) -> frozenset[str]:
    """Return the keys that the template of a job reads from any object, such as a part or a call, and of media."""
    texts = [] if job.template is None else job.template.texts
    return MEDIUM_KEYS.union(word for text in texts for word in re.findall(r"(?:\.|['\"])(\w+)", text))


def account_for_sample(ledger: Ledger, job: Job, sample: Sequence[pa.RecordBatch]) -> Ledger:
    """Return the ledger with the leaves of the sample; rows that cannot be converted are left out."""
    conversion = _reader(job)
    for batch in _batches(job, sample):
        rows, conversations = _read_good_rows(conversion, ledger.rows_to_trace(batch))
        ledger = ledger.account(rows, conversations) if len(conversations) else ledger
    return ledger


Conversations = Callable[[], Sequence[pa.RecordBatch]]
"""Returns the conversations of the sample, which are read at the first call."""


def read_sample(job: Job, sample: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the conversations of the sample as its dialect reads them, without rows that it cannot read."""
    conversion = _reader(job)
    for batch in _batches(job, sample):
        if len(found := _read_good_rows(conversion, batch)[1]):  # without rows it has the columns of the source
            yield found


def _read_good_rows(conversion: Conversion, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Return the rows of a source batch that can be read, and their conversations; none if rows are read together."""
    try:
        return batch, conversion.read(batch, "")
    except RowError:
        rows = [] if conversion.job.whole_file else list(split_rows(batch))
        good = [index for index, row in enumerate(rows) if _is_good(conversion, row)]
        batch = batch.take(pa.array(good, pa.int64()))
        return batch, conversion.read(batch, "")


def _reader(job: Job) -> Conversion:
    """Return the conversion of a job without what it renders."""
    return Conversion(replace(job, template=None, mask=None, tokenizer=None, max_tokens=None))


def _batches(job: Job, sample: Sequence[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """Return the batches of a sample as the dialect of the job reads them: as one, if it reads rows together."""
    return merge_batches(iter(sample)) if job.whole_file else sample


def _is_good(conversion: Conversion, row: pa.RecordBatch) -> bool:
    try:
        conversion.read(row, "")
    except RowError:
        return False
    return True


def refuse_suspects(recipe: Recipe, job: Job, to_job: Callable[[Recipe], Job]) -> None:
    """Raise UsageError if a leaf that is left behind looks like part of the conversation.

    `to_job` plans the same sample with another recipe, to try a flag before it is named.
    """
    suspects = list(job.ledger.suspects.items())
    if suspects:
        named, more = suspects[:_NAMED], len(suspects) - _NAMED
        looks = ", ".join(f"`{path}` looks like {PHRASES[part]}" for path, part in named)
        looks += f", {more:,} more look like parts too" if more > 0 else ""
        flags = [flag for path, part in named for flag in _flags(recipe, job, path, part, to_job)]
        raise UsageError(f"{looks}, and would be left behind", hint="; ".join(dict.fromkeys(flags)))


def _flags(recipe: Recipe, job: Job, path: str, part: str, to_job: Callable[[Recipe], Job]) -> Iterator[str]:
    """Yield the flags that use or leave a leaf, each with what it does."""
    part = "tool_calls" if part == "calls" and job.ledger.column_of(path) == path else part
    part = "history" if part == "messages" and "prompt" in job.columns.parts() else part
    part = part if part != "media" else next((name for name, kind in MEDIA.items() if kind in words_of(path)), part)
    negated = part == "label" and is_blame(path)
    yield from _flags_to_map(recipe, job, f"{{{{ not {path} }}}}" if negated else path, (path, part), to_job)
    if flag := flag_to_read(job.ledger, path, part):
        yield f"{flag} reads it"
    inner = path.removeprefix("messages[].")
    if inner in TRAIN_DETAILS and job.view in ("auto", "text"):
        yield "--mask trains those parts alone"
    if recipe.groups_rows and inner != path and part in GROUPED:
        yield f"--map {part}={shlex.quote(inner)} reads it, the same in all rows of a conversation"
    if recipe.groups_rows and inner in MEDIA:
        yield f"--map {shlex.quote(f'{inner}=messages[].{inner}[]')} reads those of all rows"
    says = part == "label" and Leaf(path, "true/false") in job.ledger.left
    if says and path.isidentifier():
        good = f"'not {path}'" if negated else path
        yield f"--where {good} leaves out the bad ones"
    column, of_turns, key = path.partition("[].")
    if says and of_turns and column == job.columns.path("messages"):
        bad = f'"{key}", "equalto", {str(negated).lower()}'
        good = f"messages={{{{ {column} | rejectattr({bad}) | list | tojson }}}}"
        yield f"--map {shlex.quote(good)} {flag_to_drop(job.ledger, path)} leaves out the bad turns"
    if not job.ledger.is_used(path):
        yield f"--keep {shlex.quote(job.ledger.column_of(path))} copies it to the output"
    yield f"{flag_to_drop(job.ledger, path)} leaves it behind"


def _flags_to_map(
    recipe: Recipe, job: Job, source: str, leaf: tuple[str, str], to_job: Callable[[Recipe], Job]
) -> Iterator[str]:
    """Yield the flags that map a leaf, by its `source` or another, to its part, or with what is read already."""
    path, part = leaf
    of_pair = part == "completion" and not {"chosen", "rejected"}.isdisjoint(words_of(path))
    of_turns = part == "reasoning" and path.startswith(f"{job.columns.path('messages')}[].")
    again = part == "completion" and job.ledger.answered
    if part in dialects.known_parts() and part not in job.columns.parts() and not (of_pair or of_turns or again):
        by_role = not {"user", "assistant"}.isdisjoint(recipe.map)
        name = {"prompt": "user", "completion": "assistant"}.get(part, part) if by_role else part
        several = part == "completion" or (part == "reasoning" and job.columns.path("messages"))  # never joined
        joined = [(joined_texts(path), "its texts, joined")] if job.ledger.column_of(path) == path else []
        first = [(path.replace("[]", "[0]"), "the first")] if part == "completion" and "[]" in path else []
        for found, what in ((source, "it"), *(first if several else joined)):
            with suppress(ChatfmtError):
                mapped = to_job(dataclasses.replace(recipe, map={**recipe.map, part: found}))
                if _reads_more(mapped, job, path):
                    yield f"--map {name}={shlex.quote(found)} reads {what}"
                    break
    both, what = _both_sides(job, path, part)
    with suppress(ChatfmtError):
        mapped = to_job(dataclasses.replace(recipe, map={**recipe.map, **both})) if both else job
        unread = {other for other, kind in job.ledger.suspects.items() if kind in both} | {path}
        is_read = both and unread.isdisjoint(other.path for other in mapped.ledger.left)
        if is_read and (mapped.view == job.view or "history" not in both):
            flags = " ".join(f"--map {name}={shlex.quote(found)}" for name, found in both.items())
            yield f"{flags} reads it as {what}"


def _both_sides(job: Job, path: str, part: str) -> tuple[dict[str, str], str]:
    """Return the parts that are mapped to read a leaf and what is read already, and what the leaf is then."""
    turns, answer = job.columns.path("messages"), job.columns.path("completion")
    pair = opposites([*job.ledger.suspects, *job.ledger.used])
    if pair and path in pair:
        return {"chosen": pair[0], "rejected": pair[1]}, "one of two answers"
    if part == "completion" and answer and "rejected" in words_of(path):
        return {"chosen": answer, "rejected": path}, "the worse answer"
    if turns and not job.ledger.answered and not {"completion", "messages"}.isdisjoint((part, part_named(path))):
        return {"prompt": turns, "completion": path.replace("[]", "[0]")}, "the answer"
    if turns and job.ledger.answered and part == "prompt":
        return {"history": turns}, "the question after the turns"
    return {}, ""


GROUPED = ("system", "tools")
"""The parts of a conversation that `--group-by` may find in each of its rows."""


def _reads_more(mapped: Job, job: Job, path: str) -> bool:
    """Return whether a mapped job reads the sample as the job does, and a leaf that the job leaves behind."""
    left, before = ({leaf.path for leaf in each.ledger.left} for each in (mapped, job))
    as_before = mapped.view == job.view or mapped.view == "unpaired-preference" or job.view == "prompt"
    return as_before and bool(mapped.ledger.seen) and path not in left and left <= before
