"""The results of reading a source do not depend on the order in which they are used."""

from __future__ import annotations

from itertools import permutations

import pytest

from chatfmt.pipeline.planning.inputs import open_source
from chatfmt.pipeline.planning.scratch import Scratch
from chatfmt.recipe import Recipe

from ...conftest import run_here

NAMES = ("source", "sample", "shards", "files")


@pytest.mark.parametrize("order", list(permutations(NAMES)))
def test_results_do_not_depend_on_the_order_in_which_they_are_read(tmp_path, order):
    path = tmp_path / "in.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    recipe = Recipe(source=str(path), rows_per_shard=1)
    with Scratch() as scratch, open_source(recipe, recipe.source[0], scratch) as reader:
        found = {name: getattr(reader, name) for name in (*order, *order)}
    assert found["source"].shown == str(path)
    assert sum(len(batch) for batch in found["sample"]) == 2
    assert [split.rows for shard in found["shards"] for split in shard] == [1, 1]
    assert [file["bytes"] for file in found["files"]] == [18]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (b'{\n"a": 1}\n{\n"a": 2}\n', "write one value per line: … | jq -c . | chatfmt convert -"),
        (
            b'{"a": 1},\n{"a": 2}\n',
            "remove the commas at the ends of lines: … | sed -E 's/,[[:space:]]*$//' | chatfmt convert -",
        ),
    ],
)
def test_hints_for_stdin_name_no_temporary_file(text, hint):
    assert run_here("convert", "-", stdin=text).stderr.decode().splitlines()[1:] == [f"hint: {hint}"]
