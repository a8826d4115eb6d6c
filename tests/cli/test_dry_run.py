"""`--dry-run`: the recipe, and the rows that it counts."""

from __future__ import annotations

import json

from ..conftest import EVERYDAY, run_cli, run_process


def test_dry_run_shows_the_recipe_with_the_origin_of_each_value(tmp_path):
    (tmp_path / "r.yaml").write_text(f"source: {EVERYDAY}\ntemplate: chatml\nrows_per_shard: 5\n")
    run = run_process("convert", tmp_path / "r.yaml", "-t", "qwen3", "-o", tmp_path / "out", "--dry-run", "--json")
    plan = json.loads(run.stdout)
    assert (plan["recipe"]["template"], plan["recipe"]["rows_per_shard"]) == ("qwen3", 5)
    recipe = f"recipe {tmp_path / 'r.yaml'}"
    said = {"source": recipe, "template": "flag", "rows_per_shard": recipe}
    assert plan["origins"] == {**said, "out": "flag", "dry_run": "flag", "json": "flag"}
    assert (plan["dialects"], plan["view"], plan["rows"]) == (["messages"], "text", 12)
    assert plan["shards"] == [f"data/train-{index:05d}-of-00003.parquet" for index in range(3)]
    assert plan["engine"]["name"] == "trace" and sorted(path.name for path in tmp_path.iterdir()) == ["r.yaml"]


def test_a_dry_run_says_which_rows_it_counts(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"messages": [{"role": "user", "content": "q"}], "s": 1}\n' * 3)
    run = run_cli("convert", "in.jsonl", "--where", "s == 1", "-o", "out.jsonl", "--dry-run", cwd=tmp_path)
    assert "reads 3 rows, writes `messages` to out.jsonl" in run.stdout.decode()
