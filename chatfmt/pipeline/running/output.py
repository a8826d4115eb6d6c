"""A finished conversion as a loader sees it; see `trainers`."""

from __future__ import annotations

from collections.abc import Sequence

from ... import writers
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
        format="parquet" if manifest.shards[0].name.endswith(".parquet") else "jsonl",
        splits=writers.patterns(manifest.shards),
        shards=shards,
        columns=tuple(columns),
        recipe=manifest.recipe,
        template=manifest.template,
    )
