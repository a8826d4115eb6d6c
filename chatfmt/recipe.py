"""Recipe and Run: the settings of a conversion, and those of its run, built from YAML and flags.

Each key has the name of its flag on the command line, with `_` for `-` (`--rows-per-shard` is `rows_per_shard`).
Known datasets have a recipe each in `configs/`.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from . import plain_yaml
from .errors import RecipeError, UnknownName, UsageError, nearest
from .validation import UNKNOWN, Problem, key_or_flag, read_fields, to_plain
from .whole_files import read_whole

DEFAULT_DATE = datetime.date(2024, 7, 26)
"""The date passed to templates by default: fixed, so that a run writes the same bytes on any day."""

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: object) -> object:
    """Return `500MB` or `128MiB` in bytes; return anything else unchanged, for validation to report."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip()) if isinstance(text, str) else None
    if found is None or found[2].upper() not in _SIZES:
        return text
    return int(float(found[1]) * _SIZES[found[2].upper()])


def _as_sources(value: object) -> object:
    many = value if isinstance(value, (list, tuple)) else [value]
    return [{"source": one} if isinstance(one, (str, Path)) else one for one in many] or [value]


NotNegative = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
Size = Annotated[int, Meta(gt=0, description="a size such as 500MB or 64MiB")]
MaxBad = Annotated[
    str,
    Meta(
        pattern=r"^(\d+(\.\d+)?|(\d{1,2}(\.\d+)?|100(\.0+)?)%)$",
        description="a number of rows or a percentage up to 100%",
    ),
]


@dataclass(frozen=True)
class SourceSpec:
    """One source of rows; its `name`, `split` and `revision` override those of the recipe."""

    source: str
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    weight: Annotated[float, Meta(gt=0)] = 1.0


@dataclass(frozen=True)
class About:
    """The dataset that a recipe of `configs/` is for; no byte of the output depends on it."""

    title: str
    licence: str
    summary: str = ""
    subsets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    verified: str = ""
    languages: tuple[str, ...] = ()
    """ISO 639 codes, as the card of the dataset has them."""


@dataclass(frozen=True, init=False, kw_only=True)
class Recipe:
    """The settings of a conversion: source, dialect and mapping, transforms, template and variables, output.

    The constructor reads each value as the type of its key. Raises RecipeError with all problems.
    """

    about: About | None = None
    source: tuple[SourceSpec, ...]
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    data_files: tuple[str, ...] = ()
    data_dir: str | None = None
    field: str | None = None
    header: bool = True
    quote: bool = True
    delimiter: str | None = None
    encoding: str = "utf-8"
    allow_empty: bool = False
    from_rejects: bool = False
    max_row_bytes: Size = 64 << 20
    spool_limit: Size | None = None

    dialect: str = "auto"
    dialect_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    role: Mapping[str, str] = dataclasses.field(default_factory=dict)
    me: str | None = None
    roles: tuple[str, ...] = ()
    marker: Mapping[str, str] = dataclasses.field(default_factory=dict)
    explode: str | None = None
    where: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    order_by: str | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    limit: NotNegative | None = None
    skip: NotNegative = 0
    fraction: Annotated[float, Meta(gt=0, le=1)] = 1.0
    shuffle: bool = False
    seed: int = 0
    dedup: bool = False
    dedup_by: str | None = None
    test_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    split_by: str | None = None

    transforms: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    strict: bool = False
    fail_on: tuple[str, ...] = ()

    template: str | None = None
    fallback_template: str | None = None
    tokens_from: str | None = None
    var: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    date: datetime.date = DEFAULT_DATE
    generation_prompt: bool = False
    continue_final: bool | str = False
    bos: Literal["keep", "strip"] = "keep"
    end: Literal["keep", "strip", "eos", "cut"] = "keep"
    engine: Literal["auto", "trace", "jinja"] = "auto"
    template_isolation: Literal["auto", "required", "off"] = "auto"
    fit: bool = False
    allow_loss: tuple[str, ...] = ()
    control_tokens: Literal["keep", "drop", "escape", "reject"] = "keep"

    trainer: str | None = None
    to: str = "auto"
    mask: bool = False
    mask_stop_token: bool = True
    mask_last: bool = False
    train_reasoning: Literal["all", "generated", "none"] = "generated"
    train_roles: tuple[str, ...] = ("assistant",)
    tokenizer: str | None = None
    max_tokens: Positive | None = None
    over_length: Literal["drop", "split-turns", "error"] = "error"
    pack: Positive | None = None
    pack_strategy: Literal["bfd", "wrapped"] = "bfd"

    format: Literal["jsonl", "parquet"] | None = None
    compression: str | None = None
    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
    media_tags: bool = False
    embed_media: bool = False
    media_root: str | None = None
    rows_per_shard: Positive | None = None
    shard_size: Size | None = None
    shards: Positive | None = None
    tokens_per_shard: Positive | None = None
    shard_name: str = "{split}-{shard:05d}-of-{shards:05d}"

    on_error: Literal["stop", "skip"] = "stop"
    max_bad: MaxBad = "10%"

    @property
    def reorders_rows(self) -> bool:
        """Whether the place of a row depends on other rows, so that all are read before any is written."""
        weighted = any(spec.weight != 1 for spec in self.source)
        chosen = self.dedup or self.dedup_by is not None or self.shuffle or weighted or self.test_fraction > 0
        return chosen or self.shards is not None or self.tokens_per_shard is not None

    @property
    def condition(self) -> str | None:
        """The expression that is true for the rows to read: all that `where` holds are; None without any."""
        return " and ".join(f"({each})" for each in self.where) if len(self.where) > 1 else next(iter(self.where), None)

    @property
    def groups_rows(self) -> bool:
        """Whether rows are turns or events, of which `where` selects some."""
        return bool(self.group_by)

    @property
    def role_names(self) -> Mapping[str, str]:
        """The roles of speakers: those of `role`; with `me`, that speaker is the assistant and all others are users."""
        return self.role if self.me is None else {"*": "user", self.me: "assistant", **self.role}

    @property
    def read_apart(self) -> tuple[SourceSpec, ...]:
        """The sources that are read each by itself; where rows are grouped, the first one stands for all."""
        return self.source[:1] if self.groups_rows else self.source

    def __init__(self, **values: Any) -> None:
        vars(self).update(_checked(Recipe, _merged(with_trainer([Layer("argument", values)]))[0]))

    def plain(self) -> dict[str, Any]:
        """Return all keys with their values as JSON has them."""
        return {key: to_plain(value) for key, value in vars(self).items()}


def renders(template: object) -> bool:
    """Return whether a value of the key `template` names one, which renders the rows."""
    return template not in (None, "none")


def required(recipe: object, call: str) -> None:
    """Raise UsageError if a call was given anything but a Recipe, such as the path of the data."""
    if not isinstance(recipe, Recipe):
        source = recipe if isinstance(recipe, str) else "data.jsonl"
        hint = f'chatfmt.{call}(chatfmt.Recipe(source="{source}", template="chatml"))'
        raise UsageError(f"`chatfmt.{call}` needs a `Recipe`, not a `{type(recipe).__name__}`", hint=hint)


FOR = "for"
"""The name of the key `trainer` in recipe files and flags; Python reserves the word."""
SHORT = ("system", "calculator", "final_answer", "socratic")
"""Transforms with a flag of their own, hence with a key of their own in a recipe file."""


@dataclass(frozen=True, init=False, kw_only=True)
class Run:
    """The settings of a run, which change no row; a recipe file may hold them beside the keys of the recipe."""

    out: Path | None = None
    public: bool = False
    workers: Positive | None = None
    executor: str = "processes"
    rejects: Path | None = None
    report: Path | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False

    def __init__(self, **values: Any) -> None:
        vars(self).update(_checked(Run, values))

    def plain(self) -> dict[str, Any]:
        """Return all keys with their values as JSON has them."""
        return {key: to_plain(value) for key, value in vars(self).items()}


ADDED = {"keep": "drop", "drop": "keep", "allow_loss": "", "fail_on": "", "where": ""}
"""Lists to which a later layer adds names, each with the list that takes names from it."""


def _after_empty(names: Any) -> Any:
    """Return the names of a list of `ADDED` after the last empty one, which takes back those before it."""
    given = _names(names)
    return names if given is None else given[len(given) - [*reversed(given)].index("") :] if "" in given else given


KEYS = tuple(key.name for key in fields(Recipe))
RUN_KEYS = tuple(key.name for key in fields(Run))
EXCLUSIVE = (
    ("generation_prompt", "continue_final"),
    *combinations(("rows_per_shard", "shard_size", "shards", "tokens_per_shard"), 2),
)

_PREPARE: Mapping[str, Callable[[Any], object]] = {
    "source": _as_sources, "shard_size": parse_size, "spool_limit": parse_size,
    "max_row_bytes": parse_size, "max_bad": str, **dict.fromkeys(ADDED, _after_empty),
}  # fmt: skip
"""Functions that turn short forms of a value into the full one."""


def _read_keys(kind: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    problems: list[Problem] = []
    full = {key: _PREPARE[key](value) if key in _PREPARE else value for key, value in values.items()}
    return read_fields(kind, full, problems), problems


def _checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    made, problems = _read_keys(kind, values)
    _refuse(problems, made)
    return made


_TYPED = ("", "argument", "flag")
"""The origins of values that an error need not name."""


def _refuse(problems: Sequence[Problem], values: Mapping[str, Any], origins: Mapping[str, str] = {}) -> None:
    """Raise RecipeError with all problems, by the origin of their values, or for keys that cannot be combined."""
    flags = {key for key, origin in origins.items() if origin == "flag"}
    if problems:
        hint = next((hint for problem in problems if (hint := _hint_for(problem))), "")
        said: dict[str, list[str]] = {}
        for problem in problems:
            origin = origins.get(problem.path[0], "")
            said.setdefault("" if origin in _TYPED else f"{origin}: ", []).append(problem.describe(flags))
        raise RecipeError("; ".join(origin + "; ".join(texts) for origin, texts in said.items()), hint=hint)
    if values.get("order_by") and not values.get("group_by"):
        raise RecipeError(
            f"`{key_or_flag('order_by', flags)}` orders the rows that `group_by` joins", hint="--group-by COLUMN"
        )
    if values.get("from_rejects") and values.get("group_by"):
        raise RecipeError(
            f"`{key_or_flag('from_rejects', flags)}` and `{key_or_flag('group_by', flags)}` cannot be combined: "
            "a conversation needs its other rows, which were not rejected",
            hint="fix the rows in their source files, and convert those again",
        )
    if "rejects" in flags and values["on_error"] == "stop":
        raise RecipeError("`--rejects` is for rows that are left out, and none are here", hint="--on-error skip")
    for first, second in EXCLUSIVE:
        if values.get(first) and values.get(second):
            raise RecipeError(f"`{key_or_flag(first, flags)}` and `{key_or_flag(second, flags)}` cannot be combined")


def _hint_for(problem: Problem) -> str:
    """Return the keys that an unknown one may be, or an example of a mapping; empty for other problems."""
    first, *_, last = problem.path * 2
    if problem.text != UNKNOWN:
        return _MAPPINGS.get(first, "") if problem.text.startswith("must be a mapping") else ""
    if last in RUN_KEYS and len(problem.path) == 1:  # only in Python: a recipe file may hold them
        return f"pass `{last}` to `chatfmt.convert`, or on the command line"
    nested = {"source": SourceSpec, "about": About}.get(first)
    return UnknownName.of("key", last, [key.name for key in fields(nested)] if nested else (*KEYS, *RUN_KEYS)).hint


_MAPPINGS = {
    "source": "source: [a.jsonl, {source: b.jsonl, weight: 2}]",
    "map": "map: {user: question, assistant: answer}",
    "role": "role: {bot: assistant}",
    "var": "var: {enable_thinking: false}",
}
"""Examples of the mappings that a recipe holds."""


def with_full_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the keys of `SHORT` moved into `transforms`, and the expression `label` into `map`."""
    if isinstance(values.get("label"), str) and isinstance(values.get("map", {}), Mapping):
        built = {**values.get("map", {}), "label": f"{{{{ {values['label']} }}}}"}
        values = {**{key: value for key, value in values.items() if key != "label"}, "map": built}
    short = {key: values[key] for key in SHORT if key in values}
    named = values.get("transforms", {})
    if not short or not isinstance(named, Mapping):
        return dict(values)
    return {**{key: value for key, value in values.items() if key not in short}, "transforms": {**named, **short}}


@dataclass(frozen=True)
class Layer:
    """Values from one place; `origin` names it to the user (`recipe gsm8k`, `flag`, …)."""

    origin: str
    values: Mapping[str, Any]


def build(layers: Iterable[Layer]) -> tuple[Recipe, Run, dict[str, str]]:
    """Return the recipe, how to run it, and the origin of each given value.

    Later layers win; mappings and the lists of `ADDED` add up.

    Raises RecipeError with all problems.
    """
    values, origins = _merged(with_trainer(layers))
    own = {key: values.pop(key) for key in RUN_KEYS if key in values}
    (made, problems), (made_run, run_problems) = _read_keys(Recipe, values), _read_keys(Run, own)
    _refuse([*problems, *run_problems], made, origins)
    return Recipe(**made), Run(**made_run), origins


def _merged(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of all layers, and the origin of each."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        lists = _added_lists(values, layer.values)
        for key, value in layer.values.items():
            if isinstance(value, Mapping) and isinstance(values.get(key), Mapping):
                value = {**values[key], **value}
            values[key], origins[key] = value, layer.origin
        values |= lists
    return values, origins


def _added_lists(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the lists of `ADDED` that a layer changes: with its names, without those that it has in the other list.

    A key of turns that is no longer dropped (`--keep messages.lang`) is written with its turn, not as a column.
    """
    made = {}
    for key, opposite in ADDED.items():
        known, names, taken = (_names(each) for each in (before.get(key), given.get(key), given.get(opposite)))
        keys = [name for name in _names(before.get(opposite)) or () if str(name).startswith("messages.")]
        if known is None or names is None or taken is None or not ((known or keys) and (names or taken)):
            continue
        kept = () if "" in names else (name for name in known if name not in taken)
        merged = dict.fromkeys([*kept, *names])
        made[key] = [name for name in merged if key != "keep" or name not in keys]
    return made


def _names(value: object) -> list[Any] | None:
    """Return the names in a list or in one text, none if there is no value; None for anything else."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return [] if value is None else [value] if isinstance(value, str) else None


def with_trainer(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield the layers, and before the last one that names a trainer what the trainer needs.

    Raises UnknownName for an unknown trainer.
    """
    every = list(layers)
    named = [index for index, layer in enumerate(every) if layer.values.get("trainer") is not None]
    for index, layer in enumerate(every):
        if named and index == named[-1]:
            from .trainers import settings

            name, (given, _) = str(layer.values["trainer"]), _merged(every)
            rendered = renders(given.get("template"))
            made = settings(name, to=str(given.get("to", "auto")), rendered=rendered)
            yield Layer(f"set by --for {name}", made)
        yield layer


def load(source: str) -> Layer:
    """Read a recipe of `configs/` or a YAML file; `build` checks its values.

    Raises UnknownName for a name that is not in `configs/`, RecipeError for a file that is not a YAML mapping.
    """
    path = path_of(source)
    if not path.is_file():
        raise UnknownName.of("recipe", source, names())
    return Layer(f"recipe {source}", load_file(path))


def load_file(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file; raises RecipeError if it has no key of a recipe, or one like it."""
    values, known = read_yaml(path), {*KEYS, *RUN_KEYS, *SHORT, FOR, "label"}
    if values and not any(key in known or nearest(str(key), known, 1) for key in values):
        raise RecipeError(f"`{path}` is not a recipe: it has none of its keys", hint=FROM_YAML)
    if "weight" in values:
        raise RecipeError("`weight` is a key of a source", hint="source: [{source: a.jsonl, weight: 2}]")
    if FOR in values:
        values["trainer"] = values.pop(FOR)
    return with_full_keys(values)


def reads_files(name: str) -> bool:
    """Return whether a recipe is for files of a format, which the command line may name, and not for a dataset."""
    values = load(name).values
    return "about" in values and re.search(r"\.(json|jsonl|traj|zip)$", str(values.get("source"))) is not None


def path_of(source: str) -> Path:
    """Return the file of a recipe, which may not exist."""
    return Path(source) if source.endswith((".yaml", ".yml")) else configs() / f"{source}.yaml"


FROM_YAML = (
    "to read rows from YAML, make JSON of it: "
    "`python -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))' < FILE > rows.json`"
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file; raises RecipeError with the line of an error, and as `read_whole`."""
    try:
        values = plain_yaml.read_yaml(read_whole(path, plain_yaml.MOST_BYTES).decode(), plain_yaml.strict_loader())
    except UnicodeDecodeError:
        raise RecipeError(f"`{path}` is not UTF-8 text") from None
    except plain_yaml.InvalidYaml as error:
        raise RecipeError(f"`{path}` is not valid YAML{error}") from None
    if isinstance(values, list):
        raise RecipeError(f"`{path}` is not a recipe: it is a list", hint=f"a recipe is a mapping; {FROM_YAML}")
    if not isinstance(values, dict):
        raise RecipeError(f"`{path}` is not a recipe: it is not a mapping", hint="chatfmt recipes show gsm8k")
    return values


@cache
def configs() -> Path:
    """Return the folder of the recipes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


@cache
def names() -> tuple[str, ...]:
    """Return the names of the recipes in `configs/`, sorted."""
    return tuple(sorted(path.stem for path in configs().glob("*.yaml")))
