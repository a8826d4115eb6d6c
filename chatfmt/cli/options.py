"""The options of the commands, one place each: name, type, help and panel; a command takes the groups it needs.

An option that is not given is None, so that what the user typed can be told from a default; the defaults are the
recipe's own. Every option is a key of a recipe file under the same name.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..recipe import with_transforms

Option = Any
Group = Mapping[str, Option]


def _option(type: Any, *names: str, help: str, panel: str, metavar: str | None = None) -> Option:
    return Annotated[type | None, typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)]


def _group(panel: str, rows: Mapping[str, tuple[Any, ...]]) -> Group:
    """Options from rows of (type, metavar, help, further names…); the first name follows from the key."""
    made = {}
    for key, (type, metavar, help, *names) in rows.items():
        flag = "--" + key.replace("_", "-")
        made[key] = _option(type, *(names or [flag]), help=help, panel=panel, metavar=metavar)
    return made


INPUT = _group(
    "Input",
    {
        "name": (str, "TEXT", "Subset of a Hub data set, as in load_dataset(path, name)."),
        "split": (
            str,
            "TEXT",
            "train (default, or the only one), all, or slices such as train[:100] and train[10%:20%].",
        ),
        "revision": (str, "TEXT", "Branch, tag or commit of a Hub data set."),
        "data_files": (list[str], "GLOB", "Only these files of the data set or folder."),
        "data_dir": (str, "DIR", "Only the files under this folder of the data set."),
        "field": (str, "PATH", "Where the records lie in a JSON document: data, data[].paragraphs[].qas[], values(.)"),
        "header": (bool, None, "Whether delimited text begins with the names of its columns.", "--header/--no-header"),
        "quote": (bool, None, "Whether cells of delimited text may be quoted.", "--quote/--no-quote"),
        "delimiter": (str, "C", "What parts the cells of delimited text; none takes a line as one cell."),
        "encoding": (str, "NAME", "Encoding of delimited text."),
        "allow_empty": (bool, None, "Take an input without rows as it is, instead of failing.", "--allow-empty"),
        "from_rejects": (bool, None, "SOURCE is a file of rejects: convert the rows it holds.", "--from-rejects"),
    },
)

COLUMNS = _group(
    "Columns",
    {
        "dialect": (str, "NAME", "How the data spell a conversation; auto looks at the rows."),
        "map": (list[str], "FIELD=COLUMN", "What plays which part; FIELD='{{ a }} {{ b }}' builds it. Repeatable."),
        "role": (list[str], "FROM=TO", "Another name for a role, as in robot=assistant. Repeatable."),
        "roles": (str, "ROLE,ROLE", "The roles in turn, where the turns carry none."),
        "marker": (list[str], "TEXT=ROLE", "What starts a turn at the start of a line of the transcript. Repeatable."),
        "explode": (str, "COLUMN", "One row for each object in the lists of this column."),
        "where": (str, "EXPR", "Keep the rows for which this Jinja expression over the row is true."),
        "keep": (list[str], "COLUMN", "Carry this column through; all for every unused one. Repeatable."),
        "dialect_option": (list[str], "NAME=VALUE", "Option of a dialect, as in mc_answer=text. Repeatable."),
    },
)

ROWS = _group(
    "Rows",
    {
        "limit": (str, "N", "Only the first N rows of each source and split."),
        "skip": (str, "N", "Not the first N rows of each source and split."),
        "fraction": (str, "F", "Only this part of the rows, chosen by their content."),
        "shuffle": (bool, None, "Put the rows in another order, fixed by --seed.", "--shuffle/--no-shuffle"),
        "seed": (str, "N", "Seed of --shuffle and of what is chosen by content."),
        "dedup": (bool, None, "Leave out rows whose conversation was there before.", "--dedup/--no-dedup"),
        "test_fraction": (str, "F", "Put this part of the rows, chosen by content, into a split named test."),
    },
)

CHANGES = _group(
    "Changes",
    {
        "system": (str, "TEXT", "System message for rows that have none."),
        "calculator": (str, "keep|remove", "The <<48/2=24>> annotations of gsm8k answers."),
        "final_answer": (str, "keep|remove|column|boxed", "The #### 72 line of gsm8k answers."),
        "socratic": (str, "turn|steps", "Socratic gsm8k answers as one turn, or as a turn for each step."),
        "transform": (list[str], "NAME=VALUE", "Any change of `chatfmt transforms`. Repeatable."),
        "strict": (bool, None, "Take what merely looks bad as an error.", "--strict/--no-strict"),
        "fail_on": (list[str], "CODE", "Take this finding of `chatfmt check` as an error. Repeatable."),
    },
)

TEMPLATE = _group(
    "Template",
    {
        "template": (str, "NAME", "Built-in name, .jinja file, model folder or Hub model id.", "-t", "--template"),
        "var": (list[str], "KEY=VALUE", "Template variable, a JSON value, as in enable_thinking=false. Repeatable."),
        "date": (str, "YYYY-MM-DD", "The day that templates see."),
        "generation_prompt": (
            bool, None, "End with the start of an assistant turn.", "--generation-prompt/--no-generation-prompt",
        ),
        "continue_final": (bool, None, "Leave the last turn open.", "--continue-final/--no-continue-final"),
        "bos": (str, "keep|strip", "The BOS token at the start of the text."),
        "engine": (str, "auto|trace|jinja", "How to render; the text is the same."),
        "template_isolation": (str, "auto|required|off", "Whether templates of others run in a locked process."),
        "fit": (bool, None, "Change conversations as the template needs it, counting each change.", "--fit/--no-fit"),
        "allow_loss": (list[str], "WHAT", "A role or field whose text the template may leave out. Repeatable."),
        "control_tokens": (str, "keep|drop|escape|reject", "Special tokens inside what people wrote."),
    },
)  # fmt: skip

OUTPUT = _group(
    "Output",
    {
        "to": (str, "VIEW", ""),
        "mask": (
            bool,
            None,
            "Add assistant_spans: [start, end) in characters of the trained text.",
            "--mask/--no-mask",
        ),
        "mask_stop_token": (
            bool,
            None,
            "Whether spans take in the stop token.",
            "--mask-stop-token/--no-mask-stop-token",
        ),
        "mask_reasoning": (bool, None, "Whether spans take in reasoning.", "--mask-reasoning/--no-mask-reasoning"),
        "mask_last": (bool, None, "Only the last assistant turn is trained.", "--mask-last/--mask-all"),
        "tokenizer": (str, "FILE|DIR|ID", "Count tokens with this tokenizer."),
        "max_tokens": (str, "N", "The longest row, in tokens."),
        "over_length": (str, "drop|split-turns|error", "What becomes of longer rows."),
        "format": (str, "jsonl|parquet", "Format of the output; default from its name."),
        "compression": (str, "NAME", "Compression of the output; default from its name."),
        "rows_per_shard": (str, "N", "Rows of a shard."),
        "shard_size": (str, "SIZE", "Size of a shard, as in 500MB, measured on the input."),
    },
)

RUN = _group(
    "Run",
    {
        "out": (str, "OUT", "Folder (shards), file (x.jsonl, x.parquet, x.jsonl.zst) or - .", "-o", "--out"),
        "workers": (str, "N", "Processes to use; default one a core."),
        "executor": (str, "NAME", "What runs the tasks."),
        "on_error": (str, "stop|skip", "Stop at the first bad row, or count and keep such rows."),
        "rejects": (str, "FILE", "Where rows that were left out go, each with its reason."),
        "max_bad": (str, "N|P%", "How many rows may be left out."),
        "resume": (bool, None, "Continue an interrupted run.", "--resume/--no-resume"),
        "overwrite": (bool, None, "Replace the output of an earlier run.", "--overwrite/--no-overwrite"),
        "dry_run": (bool, None, "Show the plan and write nothing.", "--dry-run/--no-dry-run"),
    },
)

REPORT = _group(
    "Report",
    {
        "quiet": (bool, None, "No progress and no summary.", "-q", "--quiet/--no-quiet"),
        "json": (bool, None, "The report as JSON.", "--json/--no-json"),
    },
)


def _executor_help() -> tuple[str, str]:
    from ..executors import EXECUTORS

    *most, last = [executor.summary for executor in EXECUTORS.values()]
    return "|".join(EXECUTORS), f"Run tasks {', '.join(most)} or {last}."


def _view_help() -> tuple[str, str]:
    from ..views import VIEWS

    return "VIEW", f"auto, {', '.join(VIEWS)}."


REGISTRY_HELP: Mapping[str, Callable[[], tuple[str, str]]] = {"executor": _executor_help, "to": _view_help}
"""Metavar and help of options whose values come from a registry; a function each, since only help needs the import."""

SELECTION = {**INPUT, **COLUMNS, **ROWS}
CONVERSION = {**SELECTION, **CHANGES, **TEMPLATE, **OUTPUT}


def takes(*groups: Group, **own: Option) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `(arguments…, **given)` the options of `groups` and its `own`, each None unless typed."""

    def declare(command: Callable[..., None]) -> Callable[..., None]:
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

    return declare


NUMBERS = {"limit", "skip", "seed", "max_tokens", "rows_per_shard"}
"""Options that are whole numbers."""


def positive(flag: str, text: str) -> int:
    """Return the number that `flag` was given; raises UsageError for anything but a positive integer."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
        raise UsageError(f"`{flag}` must be a positive integer, not `{text}`", hint=f"{flag} 2")
    return int(text)


def to_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe keys that the options say: pairs as maps, transforms together, nothing that was not typed."""
    values = {key: value for key, value in given.items() if value is not None and value != []}
    for key in ("map", "role", "marker"):
        if key in values:
            values[key] = dict(_pair(text, key) for text in values[key])
    for key, target in (("var", "var"), ("dialect_option", "dialect_options"), ("transform", "transforms")):
        if key in values:
            values[target] = {name: _json(text) for name, text in (_pair(text, key) for text in values.pop(key))}
    if "roles" in values:
        values["roles"] = values["roles"].split(",")
    for key in values.keys() & NUMBERS:
        with suppress(ValueError):  # the recipe reports it
            values[key] = int(values[key])
    if "workers" in values:
        values["workers"] = positive("--workers", values["workers"])
    return with_transforms(values)


def _pair(text: str, key: str) -> tuple[str, str]:
    name, equals, value = (
        text.partition("=") if key != "marker" else (*text.rpartition("=")[:2], text.rpartition("=")[2])
    )
    if not equals or not name:
        flag = "--" + key.replace("_", "-")
        raise UsageError(f"`{flag} {text}` is not of the form NAME=VALUE", hint=f"{flag} NAME=VALUE")
    return name, value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
