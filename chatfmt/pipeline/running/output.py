"""A finished conversion as a loader sees it; see `trainers`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ... import trainers, writers
from ...manifest import Manifest
from ...trainers import Output


def to_output(manifest: Manifest, path: str, columns: Sequence[str]) -> Output:
    """Return the output that a manifest describes; `path` is its folder as the user wrote it."""
    shards: dict[str, tuple[str, ...]] = {}
    for shard in manifest.shards:
        shards[shard.split] = (*shards.get(shard.split, ()), shard.name)
    return Output(
        path=path,
        view=str(manifest.recipe["to"]),
        format="parquet" if all(shard.name.endswith(".parquet") for shard in manifest.shards) else "jsonl",
        splits=writers.patterns(manifest),
        shards=shards,
        columns=tuple(columns),
        recipe=manifest.recipe,
        template=manifest.template,
    )


def training_section(output: Output) -> str:
    """Return the section of the card on how to train: which tokens the text has, and what loads the files.

    The path of the output is that of the card: the same rows have the same card, wherever they are.
    """
    parts = [" ".join(token_sentences(output))] if output.is_text else []
    name = output.recipe.get("trainer")
    if name is not None:
        parts.append(f"In this folder, `chatfmt loader {output.path} --model MODEL` prints what loads it with {name}:")
        parts.append(f"```\n{trainers.find(name).loader(output)}```")
    return "".join(f"{part}\n\n" for part in parts).removesuffix("\n")


def token_sentences(output: Output) -> Iterator[str]:
    """Yield what a tokenizer must add to a text, and how the text ends."""
    yield "The text holds the special tokens of its chat template already."
    if output.stripped_bos:
        yield f"Only `{shown(output.stripped_bos)}` was left out of its start, for a tokenizer that adds it."
    else:
        yield "Tokenize it with `add_special_tokens=False`."
    if output.ends_with and output.view not in ("prompt", "stepwise"):
        yield f"It ends with `{shown(output.ends_with)}`."
    if output.view == "text" and output.recipe.get("mask"):
        yield "Trainers do not read `assistant_spans`: convert with `--to tokens` to train on that text alone."


def shown(token: str) -> str:
    """Return the text of an untrusted template for one line of Markdown, as JSON without quotes."""
    return json.dumps(token, ensure_ascii=False)[1:-1].replace("`", "")
