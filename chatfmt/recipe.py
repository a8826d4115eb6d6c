"""A Recipe says what to convert and how: plain frozen data, from YAML and flags, every problem found at once.

Each key has the name of its flag on the command line, with `_` for `-` (`--rows-per-shard` is `rows_per_shard`), so
that what can be typed can be written down. Known data sets have a recipe each in `configs/`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from .errors import RecipeError, UnknownName, UsageError

DEFAULT_DATE = datetime.date(2024, 7, 26)
"""The day that templates see when nobody names one: fixed, so that a run gives the same bytes on any day."""

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: object) -> object:
    """The bytes that `500MB` or `128MiB` say; anything else comes back as it is, for the validator to refuse."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip()) if isinstance(text, str) else None
    if found is None or found[2].upper() not in _SIZES:
        return text
    return int(float(found[1]) * _SIZES[found[2].upper()])


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, Mapping, BaseModel)) else value


def _as_sources(value: object) -> object:
    many = _as_list(value)
    return [{"source": one} if isinstance(one, str) else one for one in many] if isinstance(many, Sequence) else many


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Budget = Annotated[str, BeforeValidator(lambda v: str(v)), Field(pattern=r"^\d+(\.\d+)?%?$")]

FROZEN = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(BaseModel):
    """One place that rows come from, with what differs from the recipe's own `name`, `split` and `revision`."""

    model_config = FROZEN
    source: str
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    weight: float = Field(default=1.0, gt=0)


Sources = Annotated[tuple[SourceSpec, ...], BeforeValidator(_as_sources), Field(min_length=1)]


class About(BaseModel):
    """What a recipe of `configs/` tells of its data set; changes no byte of the output."""

    model_config = FROZEN
    title: str
    licence: str
    summary: str = ""
    subsets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    verified: str = ""


class Recipe(BaseModel):
    """What the user asked for, whole: source, dialect and mapping, transforms, template and variables, output."""

    model_config = FROZEN

    about: About | None = None
    source: Sources
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    data_files: Names = ()
    data_dir: str | None = None
    field: str | None = None
    header: bool = True
    quote: bool = True
    delimiter: str | None = None
    encoding: str = "utf-8"
    allow_empty: bool = False
    from_rejects: bool = False

    dialect: str = "auto"
    dialect_options: Mapping[str, Any] = {}
    map: Mapping[str, str] = {}
    role: Mapping[str, str] = {}
    roles: Names = ()
    marker: Mapping[str, str] = {}
    explode: str | None = None
    where: str | None = None
    keep: Names = ()

    limit: int | None = Field(default=None, ge=0)
    skip: int = Field(default=0, ge=0)
    fraction: float = Field(default=1.0, gt=0, le=1)
    shuffle: bool = False
    seed: int = 0
    dedup: bool = False
    test_fraction: float = Field(default=0.0, ge=0, lt=1)

    transforms: Mapping[str, Any] = {}
    strict: bool = False
    fail_on: Names = ()

    template: str | None = None
    var: Mapping[str, Any] = {}
    date: datetime.date = DEFAULT_DATE
    generation_prompt: bool = False
    continue_final: bool | str = False
    bos: Literal["keep", "strip"] = "keep"
    engine: Literal["auto", "trace", "jinja"] = "auto"
    template_isolation: Literal["auto", "required", "off"] = "auto"
    fit: bool = False
    allow_loss: Names = ()
    control_tokens: Literal["keep", "drop", "escape", "reject"] = "keep"

    to: str = "auto"
    mask: bool = False
    mask_stop_token: bool = True
    mask_reasoning: bool = True
    mask_last: bool = False
    tokenizer: str | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    over_length: Literal["drop", "split-turns", "error"] = "error"

    format: Literal["jsonl", "parquet"] | None = None
    compression: str | None = None
    rows_per_shard: int | None = Field(default=None, gt=0)
    shard_size: Size | None = None

    on_error: Literal["stop", "skip"] = "stop"
    max_bad: Budget = "10%"

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.generation_prompt and self.continue_final:
            raise ValueError("`generation_prompt` and `continue_final` exclude each other")
        if self.rows_per_shard and self.shard_size:
            raise ValueError("`rows_per_shard` and `shard_size` exclude each other")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _or_told(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise _told(error) from None


def required(recipe: object, call: str) -> None:
    """Raise UsageError where a call was given something else than a Recipe, such as the path of the data."""
    if not isinstance(recipe, Recipe):
        source = recipe if isinstance(recipe, str) else "data.jsonl"
        hint = f'chatfmt.{call}(chatfmt.Recipe(source="{source}", template="chatml"))'
        raise UsageError(f"`chatfmt.{call}` takes a `Recipe`, not a `{type(recipe).__name__}`", hint=hint)


SHORT = ("system", "calculator", "final_answer", "socratic")
"""Transforms that have a flag of their own, and so a key of their own in a recipe file."""


@dataclass(frozen=True)
class Run:
    """Where and how to run: what a recipe file may say beside the recipe, and what is no part of what it makes."""

    out: Path | None = None
    workers: Annotated[int, Field(gt=0)] | None = None
    executor: str = "processes"
    rejects: Path | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False


RUN = TypeAdapter(Run)
RUN_KEYS = tuple(field.name for field in fields(Run))


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
    return *_checked(values, own), origins


def _checked(values: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[Recipe, Run]:
    wrong: list[RecipeError] = []
    made: list[Any] = []
    for check, given in ((Recipe.model_validate, values), (RUN.validate_python, own)):
        try:
            made.append(check(given))
        except ValidationError as error:
            wrong.append(_told(error))
        except RecipeError as error:
            wrong.append(error)
    if wrong:
        raise RecipeError("; ".join(map(str, wrong)), hint=wrong[0].hint)
    return made[0], made[1]


def _told(error: ValidationError) -> RecipeError:
    return RecipeError("; ".join(map(_problem, error.errors())), hint=_hint(error))


def _both_maps(first: object, second: object) -> bool:
    return isinstance(first, Mapping) and isinstance(second, Mapping)


def _problem(detail: Mapping[str, Any]) -> str:
    path = ".".join(map(str, detail["loc"]))
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if detail["type"] == "extra_forbidden":
        return f"unknown key @ {path}"
    if detail["type"] == "missing":
        return f"missing key @ {path}"
    if detail["type"].startswith("date_"):
        text = f"`{detail['input']}` is no day such as `{DEFAULT_DATE}`"
    elif path and detail["type"] != "value_error":
        text = f"`{detail['input']}` is not {_WORDS.get(detail['type'], text.lower())}"
    return f"{text} @ {path}" if path else text


_WORDS = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "dict_type": "a mapping of keys to values",
    "string_pattern_mismatch": "a number of rows or a share such as 5%",
}


def _hint(error: ValidationError) -> str:
    unknown = [str(item["loc"][-1]) for item in error.errors() if item["type"] == "extra_forbidden"]
    if not unknown:
        return ""
    if unknown[0] in RUN_KEYS:  # only in Python: a recipe file may say it
        return f"`{unknown[0]}` says how to run, which is said to `chatfmt.convert` or on the command line"
    return UnknownName.of("key", unknown[0], (*Recipe.model_fields, *RUN_KEYS)).hint


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
    values = {**recipe.model_dump(mode="json", exclude={"about"}), **RUN.dump_python(run, mode="json")}
    return [(key, value, origins.get(key, "default")) for key, value in values.items()]
