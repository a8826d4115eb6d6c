"""Notes printed before conversion starts: dropped columns, guesses, options without effect."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns, tokens, trainers, transforms
from ...dialects.chat.turns import ROLE_KEYS
from ...dialects.preference.scored import to_number
from ...errors import TemplateError, UnknownName, abridged
from ...field_path import FieldPath, expression_for, top_level
from ...json_columns import JSON, TEXT
from ...mapping import replaced_columns
from ...mapping.names import names_needed
from ...mapping.plan import PREAMBLE
from ...mapping.turns import marker_pattern
from ...recipe import Recipe, renders
from ...sources.discovery.archives import unpacker
from ...sources.discovery.data_files import splits_by_name
from ...transforms.answers import FINAL
from ...turn_columns import role_is, rows_of_turns
from ...validation import flag_of
from ...views import VIEWS, is_rendered, own_view
from ..conversion.fitting import fitting, joins_parts
from ..conversion.output.columns import columns_of_turns, kept_notes
from ..conversion.text_parts import any_other_parts, join_text_parts
from .jobs import answer_columns
from .left_behind import read_sample
from .target import STDOUT, Target
from .templates import SAID, lacks

if TYPE_CHECKING:
    from ...dialects import Detection
    from ...render.template.chat_template import ChatTemplate
    from ...sources import Source
    from ..conversion.job import Job
    from .source_plan import SourcePlan

SHOWN = 70
"""Maximum length of the template text that a note quotes."""
SHOWN_TOKENS = 2
SHOWN_VARIABLES = 6


def split_notes(source: SourcePlan, recipe: Recipe, target: Target) -> Iterator[str]:
    """Yield a note on the splits that are not read because none was named, or that one file holds together."""
    read = dict.fromkeys(split.split for split in source.inputs)
    left = [f"`{name}`" for name in source.source.splits if name not in read]
    if left and read and recipe.split is None and all(spec.split is None for spec in recipe.source):
        yield f"only the split {', '.join(f'`{name}`' for name in read)} is read, not {', '.join(left)}: see --split"
    if len(read) > 1 and recipe.split == "all" and not target.holds_shards:
        together = ", ".join(f"`{name}`" for name in read)
        yield f"the splits {together} follow one another in one file: a folder, as in -o DIR/, keeps them apart"


def name_notes(sources: Sequence[Source], recipe: Recipe) -> Iterator[str]:
    """Yield a note on files named one by one or by a glob that are all read as `train`, if some are named otherwise."""
    named = recipe.split or recipe.data_files or any(spec.split for spec in recipe.source)
    files = [file for source in sources for file in source.files if source.kind == "files" and source.subset is None]
    if named or len(files) < 2 or {split for source in sources for split in source.splits} != {"train"}:
        return
    folder = os.path.commonpath([Path(file.uri).absolute().parent for file in files])
    names = [os.path.relpath(file.uri, folder) for file in files]
    splits = splits_by_name(dict(zip(names, names, strict=True)))
    others = [name for split, found in splits.items() if split != "train" for name in found]
    if others and len(others) < len(files):
        each = {**dict.fromkeys(names, "train"), **{name: split for split in splits for name in splits[split]}}
        flags = "".join(f" --data-files {shlex.quote(f'{split}={name}')}" for name, split in each.items())
        shown = os.path.relpath(folder) if Path(folder).is_relative_to(Path.cwd()) else folder
        how = f"{shlex.quote(shown)}{flags if len(files) <= _FEW else ''} --split all"
        listed = f"`{others[0]}` is" if len(others) == 1 else f"`{others[0]}` and {len(others) - 1} more are"
        yield f"{listed} read as `train` like the other files: `{how}` keeps the splits apart"


_FEW = 4
"""Files that a note names one by one, instead of their folder."""


def format_notes(formats: Set[str], recipe: Recipe) -> Iterator[str]:
    """Yield a note on each option for files of other formats than these, which the sources have."""
    if formats.isdisjoint(("csv", "tsv")):
        yield from _idle(recipe, "delimited text, and the source is none", "header", "quote", "delimiter")
    if formats.isdisjoint(("json", "jsonl")):
        yield from _idle(recipe, "JSON documents, and the source is none", "field")
    if formats <= {"parquet", "arrow"}:
        yield from _idle(recipe, "text files, and the source is none", "encoding")


def job_notes(rows: pa.RecordBatch | None, job: Job, detection: Detection, recipe: Recipe) -> Iterator[str]:
    """Yield notes on how the rows of a source are read, by the first of them, and on what is written."""
    yield from _output_notes(job, detection, recipe)
    if rows is not None:
        yield from _parts_notes(rows, job)
        yield from _reasoning_notes(rows, job, recipe)
        yield from _prompt_notes(rows, job, detection, recipe)
        yield from _repeated_notes(rows, job, recipe)
        yield from _truth_notes(rows, job, detection, recipe)
        yield from _rating_notes(rows, job, detection)
        yield from _missing_notes(rows, detection, recipe)
        yield from _bos_notes(rows, job, detection, recipe)
        yield from _marker_notes(rows, job)
        if job.mapping is not None and job.mapping.explode is not None:
            for name in replaced_columns(rows, job.mapping.explode):
                yield f"`--explode {recipe.explode}` replaces `{name}` of the row by that of each item"


def _marker_notes(rows: pa.RecordBatch, job: Job) -> Iterator[str]:
    """Yield a note on markers that transcripts mostly have inside lines, where they do not cut."""
    source = dict(job.mapping.fields).get("transcript") if job.mapping and not job.mapping.explode else None
    texts = json_columns.decode_or_none(source.column(rows)) if isinstance(source, FieldPath) else []
    text = "\n".join(text for text in texts if isinstance(text, str))
    markers = [marker for marker, _ in job.mapping.markers if marker != PREAMBLE] if job.mapping and text else []
    inside = [name for name in markers if 0 < text.count(name) >= 2 * len(marker_pattern([name]).findall(text))]
    if inside and isinstance(source, FieldPath):
        filters = "".join(
            f" | replace({json_columns.dumps(name)}, {json_columns.dumps(chr(10) + name)})" for name in inside
        )
        value = expression_for(source.text, rows.schema.names)
        how = shlex.quote(f"transcript={{{{ {value}{filters} }}}}")
        named = ", ".join(f"`{name}`" for name in inside)
        yield f"the markers {named} often stand inside lines, where they do not cut: --map {how} cuts there too"


def _repeated_notes(rows: pa.RecordBatch, job: Job, recipe: Recipe) -> Iterator[str]:
    """Yield a note on prompts that several rows have, which `--test-fraction` puts into both splits."""
    path = job.columns.path("prompt") or ""
    path = recipe.map.get("user", recipe.map.get(path, path))
    split_freely = recipe.test_fraction and recipe.split_by is None and "context" not in job.columns.fields
    if not split_freely or path not in rows.schema.names:
        return
    column = rows.column(path)
    if column.type in (TEXT, JSON) and len(column.drop_null()) > len(column.drop_null().unique()):
        yield f"several rows have the same `{path}`: --split-by {shlex.quote(path)} keeps them in one split"


def _truth_notes(rows: pa.RecordBatch, job: Job, detection: Detection, recipe: Recipe) -> Iterator[str]:
    """Yield a note on ground truths that are answers with their working, which no completion equals or holds."""
    rewarded = (job.view and VIEWS[job.view].reads_truth) or recipe.trainer == "trl-grpo"
    if not rewarded or recipe.transforms.get("final_answer", "keep") != "keep":
        return
    for name in sorted({*detection.used}.intersection(rows.schema.names)):
        column = rows.column(name)
        if column.type == TEXT and 2 * pc.match_substring_regex(column, FINAL).true_count > len(column):
            yield f"`{name}` has the working of each answer: --final-answer column writes the result alone, for rewards"


def _rating_notes(rows: pa.RecordBatch, job: Job, detection: Detection) -> Iterator[str]:
    """Yield a note on columns left behind whose numbers may rate the answers, which are all trained on."""
    if detection.type not in ("language-modeling", "prompt-completion"):
        return
    for name in sorted({leaf.path for leaf in job.ledger.left_columns}.intersection(rows.schema.names)):
        found = json_columns.decode_or_none(rows.column(name)) if name.lower() in _RATINGS else []
        values = [value for value in found if value is not None]
        numbers = [number for value in values if (number := to_number(value)) is not None]
        if len(numbers) == len(values) and len({*numbers}) > 1:
            cast = "|float" if any(isinstance(value, str) for value in values) else ""
            flag = f"--where '{name}{cast} >= MINIMUM'"
            yield f"if `{name}`, {min(numbers):g} to {max(numbers):g}, rates the answers: {flag} leaves out worse ones"


def _missing_notes(rows: pa.RecordBatch, detection: Detection, recipe: Recipe) -> Iterator[str]:
    """Yield a note on columns, in no expression, with the word that Python and pandas write for a missing value."""
    parts = {path: part for part, path in detection.columns.fields.items()}
    said = " ".join((recipe.condition or "", *(text for text in recipe.map.values() if "{{" in text)))
    missing = pa.array(_MISSING, TEXT)
    for name in sorted({*detection.used}.intersection(rows.schema.names)):
        column = rows.column(name) if name not in said else pa.nulls(len(rows))
        words = column.filter(pc.is_in(column, missing)) if column.type == TEXT else []
        if len(words):
            value, word = expression_for(name, (name,)), f'"{words[0].as_py()}"'
            empty, part = f'{{{{ "" if {value} == {word} else {value} }}}}', parts.get(name)
            flag = f"--where {shlex.quote(f'{value} != {word}')} leaves them out"
            if part in ("context", "system", "reasoning"):
                flag = f"--map {shlex.quote(f'{part}={empty}')} reads no {part} there"
            yield f"`{name}` is {word} in some rows: if that means that it has no value, {flag}"


_MISSING = ("nan", "NaN", "None", "null", "<NA>")
_RATINGS = ("rating", "ratings", "stars", "star", "label", "score", "reward", "user_rating", "human_rating", "grade")
"""Names of columns that may rate answers, in lower case."""


def _parts_notes(rows: pa.RecordBatch, job: Job) -> Iterator[str]:
    """Yield a note on lists of text parts that the template takes for text, so that it prints their brackets."""
    if job.template is None or job.fitted or "parts" in job.transforms:
        return
    read = list(read_sample(job, [rows.slice(0, _READ)]))
    if any(map(any_other_parts, read)) or not any(join_text_parts(batch)[1] for batch in read):
        return
    fits = fitting(job.template, job.options.variables, job.isolation).transforms.get("parts") == "flatten"
    if fits and not joins_parts(job, rows.slice(0, _READ)):
        yield f"the template `{job.template.name}` does not join the text parts of a message: --fit does"


def _reasoning_notes(rows: pa.RecordBatch, job: Job, recipe: Recipe) -> Iterator[str]:
    """Yield a note on reasoning before later turns, for a trainer that renders conversations turn by turn."""
    by_turn = job.view == "messages" and recipe.trainer is not None and trainers.find(recipe.trainer).by_turn
    if not by_turn or "reasoning" in job.transforms:
        return
    if any(transforms.apply(batch, {"reasoning": "last"})[1] for batch in read_sample(job, [rows.slice(0, _READ)])):
        how = "--transform reasoning=last leaves it out here too"
        yield f"{recipe.trainer} trains other tokens if the model's template leaves out earlier reasoning: {how}"


def _prompt_notes(rows: pa.RecordBatch, job: Job, detection: Detection, recipe: Recipe) -> Iterator[str]:
    """Yield a note on answers before the last of a row that are trained on too: those of a prompt, or of other rows."""
    reader = trainers.find(recipe.trainer) if recipe.trainer is not None else None
    is_split, is_pair = job.transforms.get("split_turns"), detection.type == "prompt-completion"
    is_joined = reader is not None and job.view in ("messages", "sharegpt", "alpaca", "openai")
    is_joined &= not (is_split and reader is not None and reader.splits_turns)
    is_masked = job.mask is not None and not job.mask.last_turn
    if not (is_joined or is_masked) or not (is_split or is_pair):
        return
    to = "--to prompt-completion"
    is_read = reader is not None and "prompt-completion" in reader.readable
    apart = f"{to if is_read else '--for trl-sft' if is_pair else f'--for trl-sft {to}'} keeps them apart"
    how = "--mask-last trains on the last one alone" if is_masked else apart
    if any(map(_has_earlier_answers, read_sample(job, [rows.slice(0, _READ)]))):
        what = "the rows that `split_turns` writes train earlier answers again"
        yield f"{what if is_split else 'the answers in prompts are trained on too, like completions'}: {how}"


def _has_earlier_answers(batch: pa.RecordBatch) -> bool:
    """Return whether a row has an answer in its prompt, or several in its turns."""
    for name in {"prompt", "messages"}.intersection(batch.schema.names):
        answers = rows_of_turns(batch[name])[role_is(batch[name].flatten(), "assistant")].tolist()
        if len(answers) > (0 if name == "prompt" else len({*answers})):
            return True
    return False


def _bos_notes(rows: pa.RecordBatch, job: Job, detection: Detection, recipe: Recipe) -> Iterator[str]:
    """Yield a note on texts of the data that begin with a BOS token, which a trainer's tokenizer may add again."""
    path = recipe.map.get("text", job.columns.path("text") or "text")
    if detection.type != "text" or job.view != "text" or "{{" in path:
        return
    texts = [text or "" for each in read_sample(job, [rows.slice(0, _READ)]) for text in each["text"].to_pylist()]
    value = expression_for(path, rows.schema.names)
    for bos in (bos for bos in _BOS if any(text.startswith(bos) for text in texts)):
        without = shlex.quote(f'text={{{{ {value}.removeprefix("{bos}") }}}}')
        yield f"texts begin with `{bos}`, which many tokenizers add again: --map {without} leaves it out"


_BOS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>")
_READ = 50
"""Rows of the sample that are read to see how their texts are made."""


def _output_notes(job: Job, detection: Detection, recipe: Recipe) -> Iterator[str]:
    """Yield notes on columns and turns that are not read or written, whatever the rows hold."""
    yield from kept_notes(job, detection)
    splits = job.transforms.get("reasoning") == "split"
    yield from (note for note in detection.left if not (splits and "--dialect reasoning-tags" in note))
    named = [key for key in ROLE_KEYS for path in job.ledger.seen if path.endswith(f"[].{key}")]
    if recipe.roles and named:
        yield f"`--roles {','.join(recipe.roles)}` replaces the `{named[0]}` of each turn: leave it out to keep that"
    if recipe.limit and recipe.explode and not recipe.groups_rows:
        yield f"`--limit {recipe.limit}` counts rows of the source, not those that `--explode {recipe.explode}` makes"
    read = names_needed(recipe.condition or "", expression=True)
    for name in () if recipe.groups_rows or recipe.about is not None else job.drop:  # a known dataset may lack some
        if _is_nowhere(job, name) and name not in read:
            yield f"no sampled row has a value in {'' if '.' in name else 'the column '}`{name}`, which --drop names"
    if not job.media:
        flags = () if recipe.trainer else ("media_tags", "embed_media")  # a trainer may set both
        yield from _idle(recipe, "media, and no sampled row has any", *flags, "media_root")
    if job.view == "prompt":
        kept = job.columns.also if job.columns.keep == "all" else job.columns.keep
        answers = answer_columns(detection, recipe.map)
        for name in {*answers} - {*kept}:
            yield f"`--to prompt` leaves out the answers: `--keep {name}` keeps their column"
        if not answers and detection.type == "language-modeling":
            yield "`--to prompt` leaves out the answer that ends a conversation"
    own = own_view(detection.type)
    if job.template is not None and is_rendered(detection.type):
        yield f"the rows are rendered text already: the template `{job.template.name}` does not change them"
    if own is not None and own.beside not in ("", *job.columns.keep) and job.view and not VIEWS[job.view].beside:
        yield f"the rows are of type {detection.type}, and `--to {job.view}` leaves out their `{own.beside}`"


def recipe_notes(
    recipe: Recipe, target: Target, jobs: Sequence[tuple[Job, Detection]], template: ChatTemplate | None
) -> Iterator[str]:
    """Yield notes on options, and on the template that renders the rows of all sources."""
    yield from _option_notes(recipe, target)
    yield from _system_notes(jobs)
    if template is not None:
        yield from _template_notes(template, recipe, jobs[0][0])


def _option_notes(recipe: Recipe, target: Target) -> Iterator[str]:
    """Yield notes on JSON Lines named `.json`, on options without effect whatever the rows, and on `\\n` in a text."""
    if target.is_file and ".json" in target.path.suffixes:
        yield f"`{target.path.name}` holds JSON Lines, one row per line, not one JSON array: `load_dataset` reads both"
    draws = recipe.shuffle or recipe.fraction < 1 or recipe.test_fraction or any(s.weight != 1 for s in recipe.source)
    if recipe.seed and not draws:
        yield f"`--seed {recipe.seed}` draws nothing: it is for --shuffle, --fraction, --test-fraction and weights"
    paths = [Path(spec.source) for spec in recipe.source]
    if all(path.exists() or str(path) == "-" for path in paths):
        yield from _idle(recipe, "datasets on the Hub, and the source is not there", "revision")
    if all(str(path) == "-" or (path.is_file() and unpacker(path) is None) for path in paths):
        yield from _idle(recipe, "datasets with several subsets, and the source is a single file", "name")
        yield from _idle(recipe, "datasets and folders, and the source is a single file", "data_files", "data_dir")
    if not target.holds_shards:
        one = "stdout" if target.path == STDOUT else f"`{target.path.name}`"
        sizes = () if target.format == "parquet" else ("rows_per_shard", "shard_size")  # of its row groups
        yield from _idle(recipe, f"a folder of shards, and {one} is not divided", *sizes, "shard_name")
    if not renders(recipe.template):
        yield from _idle(recipe, "templates, and none was given", "fit", "var", "date")
    if recipe.on_error == "stop":
        yield from _idle(recipe, "--on-error skip, and here the first bad row stops the run", "max_bad")
    for name in ("system", "system_override", "merge"):
        text = recipe.transforms.get(name)
        if isinstance(text, str) and "\\n" in text and "\n" not in text:
            flag = f"--transform {name}" if name == "merge" else flag_of(name)
            how = "in bash $'one\\ntwo' is a line break"
            yield f"`{flag}` has a backslash and an n, which are written as they are: {how}"


def _idle(recipe: Recipe, kind: str, *keys: str) -> Iterator[str]:
    """Yield a note on each of these options that was given, where there is nothing that it is for."""
    for key in keys:
        value = getattr(recipe, key)
        if value != getattr(Recipe, key, {}):
            flag = flag_of(f"no_{key}" if value is False else key)
            yield f"`{flag} {value}` is for {kind}" if isinstance(value, (str, date)) else f"`{flag}` is for {kind}"


def _is_nowhere(job: Job, name: str) -> bool:
    """Return whether `--drop` names a column, or a key of turns, without values in the sample."""
    column = top_level(name, job.ledger.seen)
    key = f"{column}[].{name.removeprefix(column).partition('.')[2].partition('.')[0].partition('[')[0]}"
    keys = [known for known in job.ledger.seen if known.startswith(f"{column}[].")]
    if column in job.ledger.seen:
        return bool(keys) and not key.endswith((".", ".*")) and key not in keys
    return "." not in name or column not in columns_of_turns(job)


def _system_notes(jobs: Iterable[tuple[Job, Detection]]) -> Iterator[str]:
    """Yield a note on the system message that the template adds to rows that have none."""
    rendered = [job for job, detection in jobs if not is_rendered(detection.type) and "system" not in job.transforms]
    if rendered and (system := default_system(rendered[0])):
        yield f"rows without a system message get the one of the template, `{system}`: --system TEXT sets another"


def _template_notes(template: ChatTemplate, recipe: Recipe, job: Job) -> Iterator[str]:
    """Yield notes on the date and the variables that the template reads, a BOS token that is kept, unread spans."""
    from ...render import template_renderer
    from ...render.inspection.probe import open_thinking

    if template.instead_of is not None:
        yield f"`{template.instead_of}` has no chat template: `{template.name}` is used instead"
    if level := weak_isolation(template, recipe):
        yield f"the template `{template.name}` is untrusted and {level}: `chatfmt guide security` says what it could do"
    if template.origin in SAID and (line := indentation(template, recipe)):
        yield (
            f"line {line} of the template is indented, and the indentation is part of the text: "
            "`{{-` and `{%-` strip what precedes them"
        )
    if misspelling := misspelt(template, job):
        yield misspelling
    if recipe.bos != job.options.bos:
        yield f"`--bos strip` keeps the BOS token of the template `{template.name}`, which also opens or ends turns"
    if recipe.trainer is not None and recipe.to == "auto" and job.view in ("messages", "sharegpt"):
        yield f"`--for {recipe.trainer}` writes messages, which the trainer renders with the template of its model"
    elif job.view in trainers.UNRENDERED and job.view != "tokens":
        yield f"`--to {job.view}` holds conversations, which the template `{template.name}` does not render"
    elif job.view != "prompt":
        single, system = template_renderer(template, job.options, job.isolation), job.transforms.get("system", "")
        if left_open := open_thinking(single, str(system)):
            yield left_open
    if recipe.trainer is not None and recipe.mask and job.view and VIEWS[job.view].takes_mask:
        flags = trainers.find(recipe.trainer).mask
        remedy = f": `{flags}` writes what it can train on" if flags else ""
        yield f"the trainer {recipe.trainer} does not read `assistant_spans`{remedy}"
    if job.mask is not None and job.mask.stop_token and recipe.end not in ("eos", "cut"):
        require_stop(template, job)
    yield from tokenizer_notes(template, job)
    if template.reads_date:
        yield f"the template reads the date and gets {recipe.date}: set another with --date"
    else:
        yield from _idle(recipe, "templates that read the date, and this one does not", "date")
    if not any("add_generation_prompt" in text for text in template.texts):
        yield from _idle(recipe, "templates that add one, and this one does not", "generation_prompt")
    yield from variable_notes(template, recipe)


def variable_notes(template: ChatTemplate, recipe: Recipe) -> Iterator[str]:
    """Yield notes on special tokens without a value, and on variables that the template does not read."""
    if lacks("bos_token", recipe, template):
        what = SAID[template.origin]
        remedy = "--var bos_token=TOKEN or --tokens-from MODEL sets one"
        yield f"the template reads `bos_token`, which {what} does not define: {remedy}"
    words = dict.fromkeys(word for text in template.texts for word in re.findall(r"\w+", text))
    unread = [name for name in recipe.var if name not in words and (name, recipe.end) != ("eos_token", "eos")]
    hints = {name: UnknownName.of("variable", name, words).hint for name in unread[:SHOWN_VARIABLES]}
    near = {name: hint for name, hint in hints.items() if hint.startswith("did you")}
    yield from (f"the template has no variable `{name}`: {hint}" for name, hint in near.items())
    if others := [f"`{name}`" for name in unread if name not in near]:
        yield f"the template has no variable {abridged(others, SHOWN_VARIABLES)}"


def tokenizer_notes(template: ChatTemplate, job: Job) -> Iterator[str]:
    """Yield a note on the special tokens of the template that the tokenizer splits."""
    if job.tokenizer is not None and (split := split_by_tokenizer(template, job, job.tokenizer)):
        named = abridged([f"`{token}`" for token in split], SHOWN_TOKENS, " and ")
        yield (
            f"the tokenizer `{job.tokenizer}` splits {named}, special tokens of the template `{template.name}`, "
            "into several tokens: use the tokenizer of the model"
        )


def misspelt(template: ChatTemplate, job: Job) -> str:
    """Say which variable of the template is misspelt; empty without one, and where rows may define any."""
    from ...render.safety.unknown_names import misspelt_names

    if "template_kwargs" in job.columns.fields:
        return ""
    defined = {**template.special_tokens, **job.options.variables}
    found = {name: known for text in template.texts for name, known in misspelt_names(text, defined).items()}
    reads = "; ".join(f"`{name}`, which nothing defines: did you mean `{known}`?" for name, known in found.items())
    return f"the template reads {reads}" if reads else ""


def weak_isolation(template: ChatTemplate, recipe: Recipe) -> str:
    """Say how an untrusted template runs that is not fully isolated; empty for one that is, and for trusted ones."""
    from ...render import needs_sandbox, sandbox_sessions
    from ...render.sandbox.seccomp import LEVELS

    if not needs_sandbox(template, "auto"):
        return ""
    sessions = sandbox_sessions(template, recipe.template_isolation)
    if sessions is None:
        return "runs in this process (`--template-isolation off`)"
    level = sessions.level(recipe.date)
    return "" if level == LEVELS[-1] else f"this machine isolates it by `{level}` only, not by `{LEVELS[-1]}`"


def indentation(template: ChatTemplate, recipe: Recipe) -> int | None:
    """Return the line of a template whose indentation is part of what it renders; None without one."""
    from ...render import RenderOptions, template_renderer
    from ...render.inspection.probe import indented_line

    options = RenderOptions(variables=recipe.var, date=recipe.date)
    return indented_line(template_renderer(template, options, recipe.template_isolation))


def require_stop(template: ChatTemplate, job: Job) -> None:
    """Raise TemplateError if the template prints no stop token after the last answer, whatever follows earlier ones."""
    from ...render import template_renderer
    from ...render.masks.turn_boundaries import missing_stop

    if missing := missing_stop(template_renderer(template, job.options, job.isolation)):
        raise TemplateError(
            missing,
            hint=misspelt(template, job) or "--end eos appends EOS; --no-mask-stop-token trains answers without an end",
            code="mask.stop",
        )


def split_by_tokenizer(template: ChatTemplate, job: Job, tokenizer: str) -> list[str]:
    """Return the control tokens that the template prints and the tokenizer splits, if a stop token is among them.

    Others alone may be plain text to the model of the template too, such as `[INST]`.
    """
    from ...render import template_renderer
    from ...render.masks.turn_boundaries import TurnBoundaries
    from ...render.safety.control_tokens import find_control_tokens

    single = template_renderer(template, job.options, job.isolation)
    stops = {stop.strip() for stop in TurnBoundaries(single).stops}
    printed = [
        token
        for token in find_control_tokens(template, single.special_tokens.values())
        if token in stops or any(token in text for text in template.texts)
    ]
    split = tokens.split_tokens(tokenizer, printed)
    return sorted(split, key=lambda token: token not in stops) if stops.intersection(split) else []


def default_system(job: Job) -> str:
    """Return the start of the system message that the template adds to a row without one; empty if it adds none."""
    if job.template is None:
        return ""
    from ...render import template_renderer
    from ...render.inspection.probe import Probe

    single = template_renderer(job.template, job.options, job.isolation)
    system = " ".join(Probe(single).stand_in_system().split())
    return system if len(system) <= SHOWN else f"{system[:SHOWN]}…"
