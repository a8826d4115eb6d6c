"""Values of options, read from the text that was typed: numbers, pairs and lists."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..recipe import SHORT, with_full_keys
from ..validation import flag_of


def to_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe keys that options set: pairs as mappings, transforms together, nothing that was not typed."""
    values = {key: value for key, value in given.items() if value is not None and value != [] and key != "weight"}
    if "template" in values:
        values["template"] = only_one("-t", values["template"])
    for key in ("map", "role", "marker", "rename"):
        if key in values:
            values[key] = split_pairs(values[key], key)
    for key, target in (("var", "var"), ("dialect_option", "dialect_options"), ("transform", "transforms")):
        if key in values:
            values[target] = {name: _json_or_text(text) for name, text in split_pairs(values.pop(key), key).items()}
    check_short(values)
    for key in {"roles", "train_roles"} & values.keys():
        values[key] = values[key].split(",")
    for key in values.keys() & NUMBERS.keys():
        values[key] = NUMBERS[key](flag_of(key), values[key])
    if "workers" in values:
        values["workers"] = positive("--workers", values["workers"])
    return with_full_keys(values)


def only_one(flag: str, given: Sequence[str]) -> str:
    """Return the value of a flag that was given once; raises UsageError if it was given again with another value."""
    if len(set(given)) > 1:
        raise UsageError(f"`{flag}` was given {len(given)} times", hint=f"a run has one: {flag} {given[0]}")
    return given[0]


def whole_number(flag: str, text: str) -> int:
    """Return the number that `flag` was given, as in 5, -1, 1_000 or 5.0; raises UsageError for anything else."""
    found = re.fullmatch(r"\s*([+-]?[0-9]+(?:_[0-9]+)*)(?:\.0+)?\s*", text)
    if not found or len(found[1]) > 4300:  # the most that `int` reads
        raise UsageError(f"`{flag}` must be a whole number, not `{text}`")
    return int(found[1])


def fraction(flag: str, text: str) -> float:
    """Return the number that `flag` was given, as in .5 or 1e-3; raises UsageError for anything else."""
    try:
        return float(text.strip().encode("ascii"))
    except ValueError:
        percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
        hint = f"{flag} {float(percent[1]) / 100:g}" if percent else ""
        raise UsageError(f"`{flag}` must be a number, not `{text}`", hint=hint) from None


NUMBERS: Mapping[str, Callable[[str, str], float]] = {
    **dict.fromkeys(
        ("limit", "skip", "seed", "max_tokens", "pack", "rows_per_shard", "shards", "tokens_per_shard"), whole_number
    ),
    **dict.fromkeys(("fraction", "test_fraction"), fraction),
}
"""Options that are numbers, each with the function that reads it; the recipe checks the range."""


def positive(flag: str, text: str) -> int:
    """Return the number that `flag` was given; raises UsageError for anything but a positive integer."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
        raise UsageError(f"`{flag}` must be a positive integer, not `{text}`", hint=f"{flag} 2")
    return int(text)


PYTHON = {"True": True, "False": False, "None": None}


def split_pair(text: str, key: str) -> tuple[str, str]:
    """Split NAME=VALUE at the first `=`, a marker at the last."""
    name, equals, value = text.rpartition("=") if key == "marker" else text.partition("=")
    if not equals or not name:
        flag = flag_of(key)
        raise UsageError(f"`{flag} {text}` is not of the form NAME=VALUE", hint=f"{flag} NAME=VALUE")
    return name, value


def split_pairs(texts: Sequence[str], key: str) -> dict[str, str]:
    """Split each NAME=VALUE of an option; raises UsageError for a name with two values."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, value = split_pair(text, key)
        if pairs.setdefault(name, value) != value:
            flag = flag_of(key)
            raise UsageError(
                f"`{flag}` gives `{name}` two values, `{pairs[name]}` and `{value}`", hint="leave one of them out"
            )
    return pairs


def check_short(values: Mapping[str, Any]) -> None:
    """Raise UsageError for a value that is given by two options, as in `--label EXPR --map label=COLUMN`."""
    for key in ("label", *SHORT):
        option = "map" if key == "label" else "transforms"
        if key in values and key in values.get(option, {}):
            given = f"{flag_of(option.removesuffix('s'))} {key}={values[option][key]}"
            raise UsageError(f"`{flag_of(key)}` and `{given}` say two things", hint="leave one of them out")


def _json_or_text(text: str) -> Any:
    """Return a JSON value, or one of Python's `True`, `False` and `None`, else the text; JSON quotes make it a text."""
    try:
        return PYTHON[text] if text in PYTHON else json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise UsageError(f"`{text[:40]}…` is nested too deeply", hint="write it with fewer levels") from None
