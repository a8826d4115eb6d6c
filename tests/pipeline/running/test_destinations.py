"""Destinations publish at the commit, and not before."""

from __future__ import annotations

import json

import pytest

from chatfmt import pipeline
from chatfmt.pipeline.running.destinations import DESTINATIONS
from chatfmt.pipeline.running.run import write_shards
from chatfmt.recipe import Recipe, Run

RUN = Run(executor="serial", workers=1)


@pytest.fixture
def recipe(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "in.jsonl").write_text(f"{json.dumps({'messages': turns})}\n" * 9)
    return Recipe(source=str(tmp_path / "in.jsonl"), template="chatml", rows_per_shard=4, shuffle=True)


@pytest.mark.parametrize(("out", "kind"), [("out", "folder"), ("out.jsonl", "file"), ("-", "stream")])
def test_a_destination_is_empty_until_its_commit(tmp_path, recipe, capfdbinary, out, kind):
    path = tmp_path / out if out != "-" else out
    target = pipeline.target_of(path, recipe.format, recipe.compression)
    assert target.kind == kind

    def published():
        data = [item for item in tmp_path.rglob("*") if item.is_file() and ".chatfmt" not in str(item)]
        return len(data) - 1, len(capfdbinary.readouterr().out)

    with pipeline.Scratch() as scratch:
        plan = pipeline.plan(recipe, target, scratch, RUN)
        with DESTINATIONS[kind](plan, RUN) as destination:
            shards = write_shards(plan, RUN, destination, lambda rows: None)
            assert published() == (0, 0)
            size = destination.commit(plan, shards)
    files, streamed = published()
    assert sum(shard.rows for shard in shards) == 9
    assert (files, streamed) == {"folder": (4, 0), "file": (1, 0), "stream": (0, size)}[kind]
