"""The metadata of a dataset on the Hub: the first keys of the card, from the sources and the output.

The keys and their values are those of `datasetcard.md` in the Hub's documentation (docs/hub/datasets-cards). Nothing is
guessed: without a licence or language that every source states, the card states none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..features import features_of, kinds_of
from ..manifest import Manifest

_LICENCE = re.compile(r"[a-z0-9]+([.+-]+[a-z0-9]*)*")
"""An identifier such as `cc-by-sa-4.0`; the Hub lists those it knows in docs/hub/repositories-licenses."""
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
_TAG = re.compile(r"[\w.-]+(/[\w.-]+)?")
_POWERS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_TASKS = {"Image": "image-text-to-text", "Video": "video-text-to-text", "Audio": "audio-text-to-text"}


def hub_metadata(manifest: Manifest, schema: pa.Schema | None) -> dict[str, Any]:
    """Return `license`, `language`, `task_categories`, `tags` and `size_categories`, those that are known."""
    named = [source for source in manifest.sources if source.get("id")]
    found = {
        "license": _licence(named, manifest.recipe.get("about") or {}),
        "language": _languages(named, manifest.recipe.get("about") or {}),
        "task_categories": _tasks(schema),
        "tags": ["chatfmt", *_template_tag(manifest.template)],
        "size_categories": [size_category(sum(shard.rows for shard in manifest.shards))],
    }
    return {key: value for key, value in found.items() if value}


def _licence(sources: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str | list[str] | None:
    """Return the licences of all sources, else that of the recipe; None if one of them has no identifier."""
    stated = [str(source.get("licence") or about.get("licence") or "").lower() for source in sources]
    known = list(dict.fromkeys(part for text in stated for part in text.split(", ")))
    if not known or not all(map(_LICENCE.fullmatch, known)):
        return None
    return known[0] if len(known) == 1 else known


def _languages(sources: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> list[str]:
    """Return the languages that the sources state; none if one of them states none."""
    stated = [source.get("languages") or about.get("languages") or () for source in sources]
    if not all(stated):
        return []
    return [name for name in dict.fromkeys(name for names in stated for name in names) if _LANGUAGE.fullmatch(name)]


def _tasks(schema: pa.Schema | None) -> list[str]:
    features = None if schema is None else features_of(schema)
    media = [_TASKS[kind] for kind in dict.fromkeys(kinds_of(features or {})) if kind in _TASKS]
    return media or ["text-generation"]


def _template_tag(template: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of a template that others know, so no path and no text."""
    name = str(template.get("name", ""))
    if template.get("origin") in ("built-in", "hub") and _TAG.fullmatch(name):
        yield name


def size_category(rows: int) -> str:
    """Return the category of the Hub for a number of rows."""
    power = sum(rows >= 10 ** (3 + place) for place in range(len(_POWERS)))
    if power in (0, len(_POWERS)):
        return "n<1K" if not power else "n>1T"
    return f"{_POWERS[power - 1]}<n<{_POWERS[power]}"
