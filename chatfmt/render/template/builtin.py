"""The built-in chat templates: one file in `chatfmt/templates` each, found by name or alias.

A file is a Jinja template whose first comment is its header, one `key: value` per line:

    family: the models that use the template
    source: who published the format, and where it is documented
    revision: the revision and day of the published copy with which it is compared, or that none is known
    aliases: other, names
    supports: words of SUPPORTS
    variables: template variables that it reads
    notes: anything else
    bos_token: "<s>"        special tokens as JSON values, under the names that templates use

`family`, `source`, `revision` and `supports` are always there. The header is read without Jinja, and only when a
template is requested: listing the names reads no file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from msgspec import Struct

from ...errors import TemplateError, edit_distance, nearest

SUPPORTS: Mapping[str, str] = MappingProxyType(
    {
        "turns": "user and assistant in turn",
        "system": "a system message at the start",
        "default-system": "writes a system text of its own where there is none",
        "date": "writes a date",
        "any-role": "renders a role that it does not know under its own name",
        "any-order": "does not demand that user and assistant alternate",
        "tools": "lists the tools",
        "calls": "renders tool calls",
        "results": "renders tool results",
        "reasoning": "renders the reasoning of an answer, at least of the last one",
        "parts": "takes content as a list of text parts",
        "images": "writes a placeholder for an image part",
        "videos": "writes a placeholder for a video part",
        "audios": "writes a placeholder for an audio part",
        "documents": "lists documents",
    }
)
"""The features that a header may claim. A template may lack any that it does not claim."""

_HEADER = re.compile(r"\A\{#-?\n(.*?)\n-?#\}", re.DOTALL)
_PROSE = ("family", "source", "revision", "notes")
_LISTS = ("aliases", "supports", "variables")


class Builtin(Struct, frozen=True):
    """One built-in template: its Jinja text (including the header, which renders to nothing) and its header."""

    name: str
    text: str
    family: str
    source: str
    revision: str
    """The revision and day of the published copy with which it is compared; or that none is known."""
    supports: tuple[str, ...]
    special_tokens: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    notes: str = ""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all built-in templates, sorted; reads no file."""
    entries = (entry.name for entry in files("chatfmt").joinpath("templates").iterdir())
    return tuple(sorted(name.removesuffix(".jinja") for name in entries if name.endswith(".jinja")))


@cache
def aliases() -> Mapping[str, str]:
    """Return the aliases with the name of each; reads the header of every file once."""
    pairs = ((alias, name) for name in names() for alias in _read(name).aliases)
    return MappingProxyType(dict(sorted(pairs)))


def is_name(reference: str) -> bool:
    """Return whether a reference can only be a name: not a path, a Hub model or a template file."""
    return "/" not in reference and os.sep not in reference and not reference.endswith(".jinja")


def find(name_or_alias: str) -> Builtin | None:
    """Return the template with that name or alias, or None; case is ignored (`Llama-3.1` finds `llama-3.1`)."""
    if not is_name(name_or_alias):
        return None
    wanted = name_or_alias.lower()
    if wanted in names():
        return _read(wanted)
    name = aliases().get(wanted)
    return _read(name) if name else None


def close_to(name: str) -> tuple[str, ...]:
    """Return the names and aliases similar to `name`, the closest first; `qwen3.8` is not similar to `qwen-3-8b`."""
    typed = name.lower()
    numbers = len(_NUMBER.findall(typed))
    found = nearest(typed, [*names(), *aliases()])
    return tuple(one for one in found if len(_NUMBER.findall(one)) == numbers or edit_distance(typed, one) == 1)


_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@cache
def _read(name: str) -> Builtin:
    text = files("chatfmt").joinpath("templates", f"{name}.jinja").read_text(encoding="utf-8")
    return parse(name, text)


def parse(name: str, text: str) -> Builtin:
    """Return the template in `text`.

    Raises TemplateError if the header is missing or invalid, or lacks or repeats a key.
    """
    fields = _fields(name, text)
    for key in ("family", "source", "revision", "supports"):
        if not fields.get(key):
            raise TemplateError(f"the header of the built-in template `{name}` has no `{key}`")
    return Builtin(
        name=name,
        text=text,
        special_tokens=MappingProxyType(_tokens(name, fields)),
        family=fields["family"],
        source=fields["source"],
        revision=fields["revision"],
        supports=_words(fields["supports"]),
        aliases=_words(fields.get("aliases", "")),
        variables=_words(fields.get("variables", "")),
        notes=fields.get("notes", ""),
    )


def _fields(name: str, text: str) -> dict[str, str]:
    found = _HEADER.match(text)
    if not found:
        raise TemplateError(f"the built-in template `{name}` does not begin with a header comment")
    fields: dict[str, str] = {}
    for line in found[1].splitlines():
        key, colon, value = line.partition(": ")
        if not colon or key in fields or not (key in _PROSE or key in _LISTS or key.endswith("_token")):
            raise TemplateError(f"the header of the built-in template `{name}` cannot be read: `{line}`")
        fields[key] = value.strip()
    return fields


def _tokens(name: str, fields: Mapping[str, str]) -> dict[str, str]:
    tokens = {key: json.loads(value) for key, value in fields.items() if key.endswith("_token")}
    if not all(isinstance(value, str) for value in tokens.values()):
        raise TemplateError(f"the header of the built-in template `{name}` has a special token that is not text")
    return tokens


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())
