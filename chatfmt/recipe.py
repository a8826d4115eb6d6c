"""A Recipe says what to convert and how: plain frozen data, from YAML and flags, every problem found at once.

Each key has the name of its flag on the command line, with `_` for `-` (`--rows-per-shard` is `rows_per_shard`), so
that what can be typed can be written down. Known data sets have a recipe each in `configs/`.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from .errors import RecipeError, UnknownName, UsageError
from .validation import Checked

DEFAULT_DATE = datetime.date(2024, 7, 26)
"""The day that templates see when nobody names one: fixed, so that a run gives the same bytes on any day."""

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: object) -> object:
    """The bytes that `500MB` or `128MiB` say; anything else comes back as it is, for the validator to refuse."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip()) if isinstance(text, str) else None
    if found is None or found[2].upper() not in _SIZES:
        return text
    return int(float(found[1]) * _SIZES[found[2].upper()])


def _as_sources(value: object) -> object:
    many = value if isinstance(value, (list, tuple)) else [value]
    return [{"source": one} if isinstance(one, (str, Path)) else one for one in many] or [value]


NotNegative = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
Budget = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?%?$", description="a number of rows or a share such as 5%")]


@dataclass(frozen=True, init=False)
class SourceSpec(Checked):
    """One place that rows come from, with what differs from the recipe's own `name`, `split` and `revision`."""

    source: str
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    weight: Annotated[float, Meta(gt=0)] = 1.0


@dataclass(frozen=True, init=False)
class About(Checked):
    """What a recipe of `configs/` tells of its data set; changes no byte of the output."""

    title: str
    licence: str
    summary: str = ""
    subsets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    verified: str = ""


@dataclass(frozen=True, init=False, kw_only=True)
class Recipe(Checked):
    """What the user asked for, whole: source, dialect and mapping, transforms, template and variables, output."""

    spellings: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "source": _as_sources,
        "shard_size": parse_size,
        "max_bad": str,
    }
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (
        ("generation_prompt", "continue_final"),
        ("rows_per_shard", "shard_size"),
    )

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

    dialect: str = "auto"
    dialect_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    role: Mapping[str, str] = dataclasses.field(default_factory=dict)
    roles: tuple[str, ...] = ()
    marker: Mapping[str, str] = dataclasses.field(default_factory=dict)
    explode: str | None = None
    where: str | None = None
    keep: tuple[str, ...] = ()

    limit: NotNegative | None = None
    skip: NotNegative = 0
    fraction: Annotated[float, Meta(gt=0, le=1)] = 1.0
    shuffle: bool = False
    seed: int = 0
    dedup: bool = False
    test_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.0

    transforms: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    strict: bool = False
    fail_on: tuple[str, ...] = ()

    template: str | None = None
    var: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    date: datetime.date = DEFAULT_DATE
    generation_prompt: bool = False
    continue_final: bool | str = False
    bos: Literal["keep", "strip"] = "keep"
    engine: Literal["auto", "trace", "jinja"] = "auto"
    template_isolation: Literal["auto", "required", "off"] = "auto"
    fit: bool = False
    allow_loss: tuple[str, ...] = ()
    control_tokens: Literal["keep", "drop", "escape", "reject"] = "keep"

    to: str = "auto"
    mask: bool = False
    mask_stop_token: bool = True
    mask_reasoning: bool = True
    mask_last: bool = False
    tokenizer: str | None = None
    max_tokens: Positive | None = None
    over_length: Literal["drop", "split-turns", "error"] = "error"

    format: Literal["jsonl", "parquet"] | None = None
    compression: str | None = None
    rows_per_shard: Positive | None = None
    shard_size: Positive | None = None

    on_error: Literal["stop", "skip"] = "stop"
    max_bad: Budget = "10%"

    @property
    def reorders_rows(self) -> bool:
        """Whether the place of a row depends on other rows, so that all are read before any is written."""
        weighted = any(spec.weight != 1 for spec in self.source)
        return self.dedup or self.shuffle or weighted or self.test_fraction > 0

    @classmethod
    def hint(cls, unknown: str) -> str:
        """What to do about a key that a recipe does not have."""
        if unknown in RUN_KEYS:  # only in Python: a recipe file may say it
            return f"`{unknown}` says how to run, which is said to `chatfmt.convert` or on the command line"
        return UnknownName.of("key", unknown, (*KEYS, *RUN_KEYS)).hint


def required(recipe: object, call: str) -> None:
    """Raise UsageError where a call was given something else than a Recipe, such as the path of the data."""
    if not isinstance(recipe, Recipe):
        source = recipe if isinstance(recipe, str) else "data.jsonl"
        hint = f'chatfmt.{call}(chatfmt.Recipe(source="{source}", template="chatml"))'
        raise UsageError(f"`chatfmt.{call}` takes a `Recipe`, not a `{type(recipe).__name__}`", hint=hint)


SHORT = ("system", "calculator", "final_answer", "socratic")
"""Transforms that have a flag of their own, and so a key of their own in a recipe file."""


@dataclass(frozen=True, init=False)
class Run(Checked):
    """Where and how to run: what a recipe file may say beside the recipe, and what is no part of what it makes."""

    out: Path | None = None
    workers: Positive | None = None
    executor: str = "processes"
    rejects: Path | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False


KEYS = tuple(key.name for key in fields(Recipe))
RUN_KEYS = tuple(key.name for key in fields(Run))


def with_transforms(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the keys of `SHORT` among the `transforms`."""
    short = {key: values[key] for key in SHORT if key in values}
    named = values.get("transforms", {})
    if not short or not isinstance(named, Mapping):
        return dict(values)
    return {**{key: value for key, value in values.items() if key not in short}, "transforms": {**named, **short}}


@dataclass(frozen=True)
class Layer:
    """Values that one place gave: `origin` names it to the user (`recipe gsm8k`, `flag`, …)."""

    origin: str
    values: Mapping[str, Any]


def build(layers: Iterable[Layer]) -> tuple[Recipe, Run, dict[str, str]]:
    """The recipe of all layers, how to run it, and the origin of each value given; later layers win, maps add up.

    Raises RecipeError with all problems, each as `text @ key.path`.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            merged = {**values[key], **value} if _both_maps(values.get(key), value) else value
            values[key], origins[key] = merged, layer.origin
    own = {key: values.pop(key) for key in RUN_KEYS if key in values}
    wrong: list[RecipeError] = []
    made = [_or_told(Recipe, values, wrong), _or_told(Run, own, wrong)]
    if wrong:
        raise RecipeError("; ".join(map(str, wrong)), hint=wrong[0].hint)
    return made[0], made[1], origins


def _or_told(kind: type[Checked], values: Mapping[str, Any], wrong: list[RecipeError]) -> Any:
    try:
        return kind(**values)
    except RecipeError as error:
        wrong.append(error)


def _both_maps(first: object, second: object) -> bool:
    return isinstance(first, Mapping) and isinstance(second, Mapping)


def is_recipe(source: str) -> bool:
    """Whether SOURCE names a recipe: one of `configs/` by name, or a YAML file that is there."""
    return source in names() or (source.endswith((".yaml", ".yml")) and Path(source).is_file())


def load(source: str) -> Layer:
    """The values of a recipe of `configs/` or of a YAML file, unchecked; `build` checks them.

    Raises UnknownName for a name that is not in `configs/`, RecipeError for a file that is not a YAML mapping.
    """
    path = Path(source) if source.endswith((".yaml", ".yml")) else configs() / f"{source}.yaml"
    if not path.is_file():
        raise UnknownName.of("recipe", source, names())
    return Layer(f"recipe {path.stem}", with_transforms(read_yaml(path)))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises RecipeError with the line of what is wrong, or of a key given twice."""
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"`{path}` is not valid YAML{where}: {error.problem}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"`{path}` is not UTF-8 text") from None
    if not isinstance(values, dict):
        raise RecipeError(f"`{path}` is not a recipe: it holds no keys", hint="chatfmt recipes show gsm8k")
    return values


@cache
def _loader() -> Any:
    """YAML as data only: a key given twice is an error, and nothing but true and false is a truth value."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key `{key.value}` appears twice", problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    truth = "tag:yaml.org,2002:bool"
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != truth]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(truth, re.compile("^(?:true|false)$"), list("tf"))
    return Loader


@cache
def configs() -> Path:
    """The folder of the recipes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


@cache
def names() -> tuple[str, ...]:
    """The names of the recipes in `configs/`, in order."""
    return tuple(sorted(path.stem for path in configs().glob("*.yaml")))


def describe(recipe: Recipe, run: Run, origins: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """Each key of both with its value as plain data and where the value came from; `default` for the rest."""
    values = {**recipe.plain(), **run.plain()}
    return [(key, value, origins.get(key, "default")) for key, value in values.items() if key != "about"]
