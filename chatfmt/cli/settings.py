"""Options that are set outside the command line: in the user's configuration file and in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from ..errors import InputError, RecipeError, UsageError, nearest
from . import terminal
from .options import EVERY, FLAGS
from .values import to_values

if TYPE_CHECKING:
    from ..recipe import Layer

PREFIX = "CHATFMT_"
CONFIG = "CHATFMT_CONFIG"
"""Names another configuration file; empty for none."""
SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def config_file() -> Path | None:
    """Return the path of the configuration file, which may not exist, or None if it is switched off."""
    given = os.environ.get(CONFIG)
    if given is not None:
        return Path(given) if given else None
    return Path(typer.get_app_dir("chatfmt"), "config.yaml")


def from_config() -> Iterator[Layer]:
    """Yield the values of the configuration file, a recipe file without a source.

    Raises RecipeError if it has a source, or if CHATFMT_CONFIG names a file that does not exist; InputError if it may
    not be read.
    """
    from ..recipe import Layer, load_file

    path = config_file()
    if path is None or not (path.exists() or CONFIG in os.environ):
        return
    if not path.exists():
        raise RecipeError(
            f"`{path}` does not exist", hint=f"{CONFIG} names the configuration file; unset it, or write the file"
        )
    try:
        values = load_file(path)
    except InputError as error:
        error.hint += f"; it is the configuration file, and {CONFIG}='' runs without it"
        raise
    if "source" in values or "about" in values:
        hint = "a file that names its source is a recipe: chatfmt convert FILE"
        raise RecipeError(f"`{path}` is the configuration file, which cannot have a source", hint=hint)
    yield Layer(str(path), values)


def from_environment(keys: Iterable[str]) -> Iterator[Layer]:
    """Yield the value of each option with an environment variable; a repeatable one has a value per line."""
    from ..recipe import Layer

    for key in keys:
        name = variable_of(key)
        if text := os.environ.get(name):
            kind = get_args(get_args(EVERY[key])[0])[0]
            try:
                yield Layer(name, to_values({key: _read(kind, text)}))
            except UsageError as error:
                raise UsageError(f"{name}: {error}", hint=error.hint) from None


def note_misspelt(given: Mapping[str, Any]) -> None:
    """Print a note for each variable of the environment that looks like that of an option, and sets none."""
    for note in () if given.get("quiet") else _misspelt():
        terminal.print_note(note)


def _misspelt() -> tuple[str, ...]:
    known = {CONFIG, *map(variable_of, EVERY)}
    given = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known | OF_TESTS)
    found = {name: close[0] for name in given if (close := nearest(name, sorted(known), MOST_TYPED_WRONG))}
    return tuple(f"the variable `{name}` sets no option: did you mean `{close}`?" for name, close in found.items())


OF_TESTS = frozenset({"CHATFMT_SHARED", "CHATFMT_TEMPLATES", "CHATFMT_TRL_TEMPLATES", "CHATFMT_UPDATE_GOLDENS"})
"""Variables that the tests of chatfmt read."""
MOST_TYPED_WRONG = 3
"""Letters by which a variable or an option may differ from one that is suggested."""


def variable_of(key: str) -> str:
    """Return the variable that sets an option."""
    return PREFIX + FLAGS[key].lstrip("-").replace("-", "_").upper()


def lines(key: str) -> list[str]:
    """Return the lines of the environment variable of an option."""
    return os.environ.get(PREFIX + key.upper(), "").splitlines()


def _read(kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() not in SWITCH:
            raise UsageError(f"must be true or false, not `{text}`")
        return SWITCH[text.lower()]
    return text if kind is str else text.splitlines()
