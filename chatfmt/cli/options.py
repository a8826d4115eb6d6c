"""The option table: name, type, help and panel of every option, once; commands declare the groups they accept.

An option that is not given is None, which tells it from a default; the defaults are those of the recipe. Every option
is a key of a recipe file under the same name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from typing import Annotated, Any

import typer

from ..validation import flag_of
from .completion import completer

Option = Any
OptionGroup = Mapping[str, Option]

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE…",
        help="Recipe, Hub id, file, folder, glob, URL, or - for stdin.",
        autocompletion=completer("source"),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def flag(name: str, help: str) -> Option:
    """Return a flag of one command."""
    return Annotated[bool | None, typer.Option(name, help=help)]


def value(metavar: str, help: str, *names: str, many: bool = False, completes: str = "") -> Option:
    """Return an option of one command, completed as the option or argument `completes` is."""
    kind = list[str] | None if many else str | None
    return Annotated[kind, typer.Option(*names, help=help, metavar=metavar, autocompletion=completer(completes))]


def _group(panel: str, rows: Mapping[str, tuple[Any, ...]]) -> OptionGroup:
    """Return options from rows of (type, metavar, help, names…); without names, the flag is made from the key."""
    made = {}
    for key, (type, metavar, help, *names) in rows.items():
        flags = names or [flag_of(key)]
        made[key] = Annotated[type | None, typer.Option(
            *flags, help=help, rich_help_panel=panel, metavar=metavar, autocompletion=completer(key, metavar)
        )]  # fmt: skip
    return made


INPUT = _group(
    "Input",
    {
        "name": (str, "TEXT", "Subset of a Hub dataset, as in load_dataset(path, name)."),
        "split": (str, "TEXT", "Default: train, or the only split. Also all, or slices: train[:100], train[10%:20%]."),
        "revision": (str, "TEXT", "Branch, tag or commit of a Hub dataset."),
        "data_files": (list[str], "GLOB", "Read only these files of the dataset or folder. Repeatable."),
        "data_dir": (str, "DIR", "Read only the files in this folder of the dataset."),
        "field": (str, "PATH", "Path to the records in a JSON document: data, data[].paragraphs[], values(.)"),
        "header": (bool, None, "Whether the first line of delimited text is a header.", "--header/--no-header"),
        "quote": (bool, None, "Whether fields of delimited text may be quoted.", "--quote/--no-quote"),
        "delimiter": (str, "C", "Field separator of delimited text; none reads each line as one field."),
        "encoding": (str, "NAME", "Encoding of a text file that is not UTF-8."),
        "allow_empty": (bool, None, "Accept empty input instead of failing.", "--allow-empty"),
        "from_rejects": (bool, None, "Convert the rows held in a rejects file, given as SOURCE.", "--from-rejects"),
        "max_row_bytes": (str, "SIZE", "The longest row of text that is read; default: 64MiB."),
        "spool_limit": (str, "SIZE", "Most of stdin that may be written to disk, where it is read twice; default: "
                        "half of the free space."),
    },
)  # fmt: skip

COLUMNS = _group(
    "Columns",
    {
        "dialect": (str, "NAME", "How the dataset represents conversations; auto detects it."),
        "map": (list[str], "FIELD=COLUMN",
                "Map a chatfmt field to a column, or build it: FIELD='{{ a }} {{ b }}'. Repeatable."),
        "role": (list[str], "FROM=TO", "Rename a role, as in robot=assistant; * stands for all others. Repeatable."),
        "me": (str, "NAME", "The assistant of a chat between people; all others are users."),
        "roles": (str, "ROLE,ROLE", "Roles that turns alternate between, if the turns have none."),
        "marker": (list[str], "TEXT=ROLE", "Line prefix that starts a turn of a transcript. Repeatable."),
        "explode": (str, "COLUMN", "Make one row per object in the lists of this column."),
        "where": (list[str], "EXPR", "Keep rows for which this Jinja expression over the row is true. Repeatable."),
        "group_by": (list[str], "COLUMN", "Make one conversation of the rows with the same value in this column, or in "
                     "all of a,b; @file: of each file. Repeatable."),
        "order_by": (str, "COLUMN", "Order of the rows of a conversation; default: that of the files."),
        "label": (str, "EXPR", "Call an answer good where this Jinja expression over the row is true: 'score >= 4'."),
        "keep": (list[str], "COLUMN", "Copy this column to the output; all copies every unused one. Repeatable."),
        "drop": (list[str], "COLUMN", "Leave out a column or key of turns (messages.*: all unread ones). Repeatable."),
        "dialect_option": (list[str], "NAME=VALUE", "Option of a dialect, as in mc_answer=text. Repeatable."),
    },
)  # fmt: skip

ROWS = _group(
    "Rows",
    {
        "limit": (str, "N", "Read only the first N rows of each source and split, after --where and before "
                  "--explode."),
        "skip": (str, "N", "Skip the first N rows of each source and split, after --where."),
        "fraction": (str, "F", "Keep this fraction of the rows, chosen by content."),
        "shuffle": (bool, None, "Shuffle the rows; --seed sets the order.", "--shuffle/--no-shuffle"),
        "seed": (str, "N", "Seed for --shuffle and for choices by content."),
        "dedup": (bool, None, "Drop duplicate conversations.", "--dedup/--no-dedup"),
        "dedup_by": (str, "COLUMN", "Keep the first row of those with the same value in this column, and all without "
                     "one."),
        "test_fraction": (str, "F", "Move about this fraction of the rows, chosen by content, to a split named test."),
        "split_by": (str, "COLUMN", "Keep rows with the same value in this column in one split."),
        "weight": (list[str], "SOURCE=N", "Write N rows per row of this source: b.jsonl=2, c.jsonl=0.5. Repeatable."),
    },
)  # fmt: skip

CHANGES = _group(
    "Changes",
    {
        "system": (str, "TEXT", "System message for rows without one."),
        "calculator": (str, "keep|remove", "The <<48/2=24>> annotations of gsm8k answers."),
        "final_answer": (str, "keep|remove|column|boxed", "The #### 72 line of gsm8k answers."),
        "socratic": (str, "turn|steps", "Socratic gsm8k answers as one turn, or as one turn per step."),
        "transform": (list[str], "NAME=VALUE", "Apply a transform; see `chatfmt transforms`. Repeatable."),
        "strict": (bool, None, "Treat warnings as errors.", "--strict/--no-strict"),
        "fail_on": (list[str], "CODE", "Treat this finding of `chatfmt check` as an error. Repeatable."),
    },
)

TEMPLATE = _group(
    "Template",
    {
        "template": (list[str], "NAME", "Built-in name, .jinja file, model folder, Hub model id, or none.",
                     "-t", "--template"),
        "fallback_template": (str, "NAME", "Template to use if the model has none."),
        "tokens_from": (str, "DIR|ID", "Model folder, Hub id or built-in template that gives the template its tokens."),
        "var": (list[str], "KEY=VALUE", "Template variable, a JSON value, as in enable_thinking=false. Repeatable."),
        "date": (str, "YYYY-MM-DD", "Date passed to templates."),
        "generation_prompt": (bool, None, "End with the start of an assistant turn.",
                              "--generation-prompt/--no-generation-prompt"),
        "continue_final": (bool, None, "Leave the last turn open.", "--continue-final/--no-continue-final"),
        "bos": (str, "keep|strip", "The BOS token at the start of the text."),
        "end": (str, "keep|strip|eos|cut", "Line break after the last stop token; eos adds one, cut leaves it out."),
        "engine": (str, "auto|trace|jinja", "Render engine; both produce the same text."),
        "template_isolation": (str, "auto|required|off", "Whether to run untrusted templates in a sandbox process."),
        "fit": (bool, None, "Adapt conversations to the template; NAME=VALUE adds a transform.", "--fit/--no-fit"),
        "allow_loss": (list[str], "WHAT", "Role or field whose text the template may omit. Repeatable."),
        "control_tokens": (str, "keep|drop|escape|reject", "How to handle special tokens in message content."),
    },
)  # fmt: skip

OUTPUT = _group(
    "Output",
    {
        "trainer": (str, "TRAINER", "Write what this trainer reads.", "--for"),
        "to": (str, "VIEW", "Columns to write."),
        "mask": (bool, None, "Add assistant_spans: [start, end) in characters of the trained text.",
                 "--mask/--no-mask"),
        "mask_stop_token": (bool, None, "Include the stop token in spans.", "--mask-stop-token/--no-mask-stop-token"),
        "mask_last": (bool, None, "Train only on the last assistant turn.", "--mask-last/--mask-all"),
        "train_reasoning": (str, "all|generated|none", "Reasoning in spans; all: also what the template supplies."),
        "train_roles": (str, "ROLE,ROLE", "Roles whose text is in spans; default: assistant."),
        "tokenizer": (str, "FILE|DIR|ID", "Count tokens with this tokenizer."),
        "max_tokens": (str, "N", "Maximum tokens per row."),
        "over_length": (str, "drop|split-turns|error", "What to do with rows over --max-tokens."),
        "pack": (str, "N", "Pack conversations into rows of up to N tokens; needs --to tokens."),
        "pack_strategy": (str, "bfd|wrapped", "Keep conversations whole, or cut their sequence every N tokens."),
        "format": (str, "jsonl|parquet", "Output format; default: from the name of OUT."),
        "compression": (str, "NAME", "Output compression; default: from the name of OUT."),
        "rename": (list[str], "COLUMN=NAME", "Write a column under another name, as in text=prompt. Repeatable."),
        "media_tags": (bool, None, "Write <image>, <video> and <audio> in the text of messages instead of parts.",
                       "--media-tags/--no-media-tags"),
        "embed_media": (bool, None, "Write the bytes of images, videos and audio files instead of their paths.",
                        "--embed-media/--no-embed-media"),
        "media_root": (str, "DIR", "Folder of the media files; default: that of the source file."),
        "rows_per_shard": (str, "N", "Rows of input per shard; filters leave fewer, and --shards N has equal ones."),
        "shard_size": (str, "SIZE", "Size of input per shard, as in 500MB."),
        "shards": (str, "N", "Write exactly N shards per split, with equal numbers of rows."),
        "tokens_per_shard": (str, "N", "Maximum tokens per shard; needs --tokenizer."),
        "shard_name": (str, "PATTERN", "Names of shards."),
    },
)  # fmt: skip

RUN = _group(
    "Run",
    {
        "out": (str, "OUT", "Folder (shards), file (x.jsonl, x.parquet, x.jsonl.zst), hf://datasets/OWNER/NAME, "
                "s3://BUCKET/PREFIX, or - for stdout.", "-o", "--out"),
        "public": (bool, None, "Create the Hub dataset public; also upload to one that is.", "--public/--private"),
        "workers": (str, "N", "Number of processes; default: one per core."),
        "executor": (str, "NAME", "Where to run tasks."),
        "on_error": (str, "stop|skip", "Stop at the first bad row, or reject and count bad rows."),
        "rejects": (str, "FILE", "Write rejected rows, each with its reason, to this file."),
        "report": (str, "FILE", "Also write a report on the data, report.html; reads the source a second time."),
        "max_bad": (str, "N|P%", "Fail if more rows than this, rounded up, are rejected."),
        "resume": (bool, None, "Continue an interrupted run.", "--resume/--no-resume"),
        "overwrite": (bool, None, "Replace the output of an earlier run.", "--overwrite/--no-overwrite"),
        "dry_run": (bool, None, "Show the plan and write nothing.", "--dry-run/--no-dry-run"),
    },
)  # fmt: skip

REPORT = _group(
    "Report",
    {
        "quiet": (bool, None, "Print no progress and no summary.", "-q", "--quiet/--no-quiet"),
        "json": (bool, None, "Print the report as JSON.", "--json/--no-json"),
    },
)


def _executor_help() -> tuple[str, str]:
    from ..executors import EXECUTORS

    *most, last = [executor.summary for executor in EXECUTORS.values()]
    return "|".join(EXECUTORS), f"Run tasks {', '.join(most)} or {last}."


def _view_help() -> tuple[str, str]:
    from ..views import VIEWS

    return "VIEW", f"auto, {', '.join(VIEWS)}."


def _trainer_help() -> tuple[str, str]:
    from ..trainers import TRAINERS

    return "TRAINER", f"Write what this trainer reads: {', '.join(TRAINERS)}."


REGISTRY_HELP: Mapping[str, Callable[[], tuple[str, str]]] = {
    "executor": _executor_help, "to": _view_help, "trainer": _trainer_help,
}  # fmt: skip
"""Metavar and help of options whose values come from a registry; a function each, since only help needs the import."""

SELECTION = {**INPUT, **COLUMNS, **ROWS}
CONVERSION = {**SELECTION, **CHANGES, **TEMPLATE, **OUTPUT}
VIEW = {key: OUTPUT[key] for key in ("trainer", "to")}
CHECK = {"media_root": OUTPUT["media_root"], "json": REPORT["json"]}
_MASKS = ("mask_last", "mask_stop_token", "train_reasoning", "train_roles")
_MEASURED = {key: OUTPUT[key] for key in ("tokenizer", "max_tokens", *_MASKS)}
SHOWN = {key: OUTPUT[key] for key in ("mask", *_MASKS, "tokenizer", "rename", "media_tags", "media_root")}
"""The options for what is written that `preview` shows, beside the view."""
FIGURES = {**SELECTION, **CHANGES, **TEMPLATE, **VIEW, **_MEASURED, "workers": RUN["workers"]}
"""The options of commands that gather the figures of all rows."""
EVERY = {**CONVERSION, **RUN, **REPORT}
FLAGS = {key: "--for" if key == "trainer" else flag_of(key) for key in EVERY}


COMMON = {
    "name", "split", "map", "where", "keep", "limit", "system", "template", "fit", "mask", "trainer", "to", "out",
    "on_error", "dry_run", "quiet",
}  # fmt: skip
"""The options that `--help` shows where a command has many; `--help-all` shows all."""


def default_of(key: str) -> str:
    """Return the default of an option as it is typed; empty where the option is off or unset."""
    default = _defaults().get(key)
    if default is True:
        return flag_of(key)
    return str(default) if isinstance(default, (str, date)) else ""


@cache
def _defaults() -> Mapping[str, Any]:
    """Return the default of each key of a recipe and of a run."""
    from dataclasses import fields

    from ..recipe import Recipe, Run

    return {field.name: field.default for kind in (Recipe, Run) for field in fields(kind)}


def declare(*groups: OptionGroup, **own: Option) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare that a command `(arguments…, **given)` has the options of `groups` and its `own`, None unless typed.

    Typer reads them from the signature of the command; six commands share up to seventy of them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        arguments = [
            parameter
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        options = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for group in (*groups, own)
            for key, annotation in group.items()
        ]
        setattr(command, "__signature__", inspect.Signature([*arguments, *options]))  # noqa: B010
        return command

    return decorate
