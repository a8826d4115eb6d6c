"""The dataset card of an output folder: README.md, which describes it to the Hub and to `load_dataset`.

YAML front matter as in the Hub's documentation of dataset cards: `configs` lists the files of each split,
`dataset_info` the features and the number of rows of each split, which `load_dataset` verifies. `num_bytes` and
`dataset_size` are the size of the rows in Arrow, as `datasets` counts it, and `download_size` that of the files. The
`description` names the content of the files: `datasets` 5.2 looks in its cache by the card alone, and would otherwise
return the earlier rows of a folder that was overwritten with as many bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa

from ..errors import UsageError
from ..features import JSON_VERSION, features_of, kinds_of, to_card
from ..manifest import Manifest, Shard
from ..stores import without_credentials
from .file_names import SHARD_NAME, shard_glob
from .hub_metadata import hub_metadata

SPLIT = re.compile(r"\w+(\.\w+)*")
"""Split names that `datasets` accepts."""


def check_split(name: str) -> None:
    """Raise UsageError for a split name that `load_dataset` could not open."""
    if not SPLIT.fullmatch(name):
        fixed = re.sub(r"\W+", "_", name).strip("_") or "train"
        raise UsageError(
            f"the split name `{name}` cannot be opened by `load_dataset`: only letters, digits, `_` and single `.`",
            hint=f"--split {fixed}",
        )


def card(manifest: Manifest, schema: pa.Schema | None = None, *, training: str = "") -> str:
    """Return the text of README.md for a finished conversion.

    `schema` is the schema passed to the encoder; without it no features are declared. `training` is the section on
    how to train with the rows, without its title.
    """
    front = {
        **hub_metadata(manifest, schema), "configs": [_config(manifest)], **_info(manifest.shards, schema),
    }  # fmt: skip
    sections = [
        _head(manifest),
        _made(manifest),
        _needs(schema, manifest),
        training and f"## Train with it\n\n{training}",
        _escaped(manifest),
    ]
    return "---\n" + _yaml(front) + "---\n\n" + "\n".join(section for section in sections if section)


def _config(manifest: Manifest) -> dict[str, Any]:
    files = [{"split": split, "path": pattern} for split, pattern in patterns(manifest).items()]
    digest = hashlib.sha256("".join(shard.sha256 for shard in manifest.shards).encode()).hexdigest()[:16]
    return {"config_name": "default", "description": f"files with sha256 {digest}", "data_files": files}


def patterns(manifest: Manifest) -> dict[str, str]:
    """Return the glob of the files of each split, `data/train-*.parquet`."""
    pattern = str(manifest.recipe.get("shard_name") or SHARD_NAME)
    endings = {shard.split: _ENDING.sub(r"\1", shard.name) for shard in manifest.shards}
    return {split: shard_glob(pattern, split, ending) for split, ending in endings.items()}


_ENDING = re.compile(r".*(\.parquet|\.jsonl(\.\w+)?)")


def _by_split(shards: Sequence[Shard]) -> dict[str, list[Shard]]:
    splits: dict[str, list[Shard]] = {}
    for shard in shards:
        splits.setdefault(shard.split, []).append(shard)
    return splits


def _info(shards: Sequence[Shard], schema: pa.Schema | None) -> dict[str, Any]:
    splits = [
        {"name": split, "num_bytes": sum(s.arrow_bytes for s in group), "num_examples": sum(s.rows for s in group)}
        for split, group in _by_split(shards).items()
    ]
    sizes = {
        "download_size": sum(shard.bytes for shard in shards), "dataset_size": sum(s.arrow_bytes for s in shards),
    }  # fmt: skip
    features = None if schema is None else features_of(schema)
    info = {"features": to_card(features)} if features is not None else {}
    return {"dataset_info": {**info, "splits": splits, **sizes}} if info else {}


def _head(manifest: Manifest) -> str:
    rows = sum(shard.rows for shard in manifest.shards)
    count = "1 row" if rows == 1 else f"{rows:,} rows"
    return f"# Converted by chatfmt\n\n{count}, made by chatfmt {manifest.chatfmt}.\n"


def _made(manifest: Manifest) -> str:
    lines = [f"- from {_source(source)}" for source in manifest.sources if source.get("id")]
    if manifest.template:
        digest = str(manifest.template.get("sha256", ""))[:16]
        lines.append(f"- chat template `{_inline(manifest.template.get('name', ''))}` (sha256 `{digest}…`)")
    lines.append(f"- chat template semantics of transformers {manifest.semantics}")
    lines.append("- `chatfmt verify DIR` compares every byte with `.chatfmt/manifest.json`")
    recipe = _recipe(manifest)
    block = f"\nThe recipe, without the values that are defaults:\n\n```yaml\n{_yaml(recipe)}```\n" if recipe else ""
    return "## How it was made\n\n" + "\n".join(lines) + "\n" + block


def _recipe(manifest: Manifest) -> dict[str, Any]:
    """Return the recipe as its file has it, without defaults, what it says of the dataset, and credentials."""
    from ..recipe import FOR, Recipe
    from ..validation import default_of, to_plain

    defaults = {key.name: to_plain(default_of(key)) for key in fields(Recipe) if key.name not in ("about", "source")}
    given = {key: manifest.recipe[key] for key in defaults if manifest.recipe.get(key) not in (None, defaults[key])}
    sources = [{key: value for key, value in spec.items() if value not in (None, 1.0)}
               for spec in manifest.recipe.get("source", ())]  # fmt: skip
    named = {"source": sources, **{FOR if key == "trainer" else key: value for key, value in given.items()}}
    return dict(json.loads(without_credentials(json.dumps(named)))) if given else {}


def _source(source: Mapping[str, Any]) -> str:
    revision = f" at revision `{_inline(source['revision'])}`" if source.get("revision") else ""
    licence = f", licence {_inline(source['licence'])}" if source.get("licence") else ""
    name = "stdin" if source.get("id") == "-" else f"`{_inline(source.get('id', ''))}`"
    return f"{name}{revision}{licence}"


def _needs(schema: pa.Schema | None, manifest: Manifest) -> str:
    features = None if schema is None else features_of(schema)
    if not features or "Json" not in kinds_of(features):
        return ""
    names = ", ".join(f"`{_inline(name)}`" for name, feature in features.items() if "Json" in kinds_of(feature))
    is_parquet = any(shard.name.endswith(".parquet") for shard in manifest.shards)
    others = " Other readers of Parquet see JSON text there." if is_parquet else ""
    need = f"`load_dataset` needs `datasets` {JSON_VERSION} or later for the type `Json` of {names}."
    return f"## Loading\n\n{need}{others}\n"


def _escaped(manifest: Manifest) -> str:
    if "escaped_tokens" not in manifest.template:
        return ""
    return (
        "## Escaped tokens\n\nControl tokens inside what people wrote are broken up by a blank after their first "
        f"character: {len(manifest.template['escaped_tokens'])} kinds, listed in `.chatfmt/manifest.json`. "
        "`chatfmt.unescape(text, template)` gives a text back as it was, `chatfmt.escape` makes a prompt like these.\n"
    )


def _inline(value: object) -> str:
    """Return untrusted text for one line of Markdown, without the characters that could end it."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return re.sub(r"([`<>\[\]|*_\\])", "", text) if "`" in text or "<" in text else text


def _yaml(value: Any, indent: int = 0) -> str:
    """Return plain data as block YAML; every scalar is JSON, a subset of YAML 1.2."""
    pad = "  " * indent
    if isinstance(value, Mapping):
        names = {key: key if key.isidentifier() else json.dumps(key) for key in value}
        return "".join(f"{pad}{names[key]}:{_value(item, indent)}" for key, item in value.items())
    return "".join(
        f"{pad}- {_yaml(item, indent + 1)[len(pad) + 2 :]}"
        if isinstance(item, Mapping)
        else f"{pad}- {json.dumps(item)}\n"
        for item in value
    )


def _value(item: Any, indent: int) -> str:
    if item and isinstance(item, (Mapping, list)):
        return "\n" + _yaml(item, indent + (isinstance(item, Mapping)))
    return f" {json.dumps(item)}\n"
