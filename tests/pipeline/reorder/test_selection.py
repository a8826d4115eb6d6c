"""Selection, repetition, split and order of rows depend on their content alone."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatfmt
from chatfmt import manifest
from chatfmt.errors import UnknownName, UsageError
from chatfmt.pipeline.reorder import gather
from chatfmt.pipeline.reorder.selection import Conversations, select
from chatfmt.recipe import Recipe, SourceSpec
from chatfmt.writers import FORMATS

from ...conftest import from_lines, run_cli
from ..test_convert import chatml, read, tree, write_jsonl, write_parquet


def conversation(number: int, about: int | None = None) -> dict[str, object]:
    said = number if about is None else about
    return {
        "id": number,
        "messages": [{"role": "user", "content": f"q{said} é"}, {"role": "assistant", "content": f"a{said}"}],
    }


ROWS = [conversation(number) for number in range(600)]
TWICE = [conversation(number, number % 400) for number in range(600)]
"""The last 200 rows are equal to the first 200."""


def convert(tmp_path: Path, rows: list[dict[str, object]], out: str = "out", **keys: object) -> list[dict[str, object]]:
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    recipe = Recipe(**{"source": source, "template": "chatml", "keep": "id", **keys})
    chatfmt.convert(recipe, out=tmp_path / out, executor="serial", workers=1)
    assert (tmp_path / out).is_file() or manifest.verify(tmp_path / out) == []
    return rows_of(tmp_path / out)


def rows_of(out: Path, split: str = "") -> list[dict[str, object]]:
    return [row for path in ([out] if out.is_file() else shards(out, split)) for row in read(path)]


def shards(out: Path, split: str = "") -> list[Path]:
    return sorted(path for path in (out / "data").iterdir() if path.name.startswith(split))


def texts(out: Path, split: str) -> set[object]:
    return {row["text"] for row in rows_of(out, split)}


def ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["id"] for row in rows]


def test_of_duplicates_the_first_stays(tmp_path):
    found = convert(tmp_path, TWICE, dedup=True, rows_per_shard=150)
    assert found == [{"text": chatml(row["messages"]), "id": row["id"]} for row in TWICE[:400]]
    totals = manifest.read_manifest(tmp_path / "out").totals
    assert (totals["rows_in"], totals["rows"], totals["duplicates"]) == (600, 400, 200)
    assert [len(read(path)) for path in shards(tmp_path / "out")] == [150, 150, 100]


def test_what_a_template_or_a_transform_makes_equal_is_no_duplicate(tmp_path):
    rows = [{"messages": [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "a"}]} for n in (1, 2)]
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.role }}{% endfor %}")
    keys = {"template": str(tmp_path / "t.jinja"), "allow_loss": "all", "keep": ()}
    assert convert(tmp_path, rows, dedup=True, **keys) == [{"text": "userassistant"}] * 2


def test_the_rows_of_one_conversation_are_no_duplicates_of_each_other(tmp_path):
    turns = [{"role": role, "content": "same"} for _ in range(3) for role in ("user", "assistant")]
    rows = [{"id": 0, "messages": turns}, {"id": 1, "messages": turns}, {"id": 2, "messages": turns[:2]}]
    found = convert(tmp_path, rows, dedup=True, transforms={"split_turns": True}, template="none")
    assert [(row["id"], len(row["messages"])) for row in found] == [(0, 2), (0, 4), (0, 6), (2, 2)]
    totals = manifest.read_manifest(tmp_path / "out").totals
    assert (totals["rows_in"], totals["added"], totals["rows"], totals["duplicates"]) == (3, 4, 4, 3)


def test_shuffled_rows_are_the_same_rows_in_an_order_fixed_by_the_seed(tmp_path):
    one = convert(tmp_path, ROWS, "one", shuffle=True, rows_per_shard=250)
    again = convert(tmp_path, ROWS, "again.jsonl", shuffle=True)
    other = convert(tmp_path, ROWS, "other", shuffle=True, seed=1)
    assert one == again != other
    assert sorted(ids(one)) == sorted(ids(other)) == list(range(600)) != ids(one)
    assert abs(np.corrcoef(ids(one), range(600))[0, 1]) < 0.15
    assert [len(read(path)) for path in shards(tmp_path / "one")] == [250, 250, 100]


def test_a_fraction_does_not_hang_on_the_order_and_larger_ones_hold_smaller_ones(tmp_path):
    some = set(ids(convert(tmp_path, ROWS, "some", fraction=0.3)))
    more = set(ids(convert(tmp_path, ROWS, "more.jsonl", fraction=0.5)))
    mixed = random.Random(0).sample(ROWS, len(ROWS))
    assert set(ids(convert(tmp_path, mixed, "mixed.jsonl", fraction=0.3))) == some < more
    assert 130 < len(some) < 230 < len(more) < 370
    assert set(ids(convert(tmp_path, ROWS, "seed.jsonl", fraction=0.3, seed=5))) != some
    totals = manifest.read_manifest(tmp_path / "some").totals
    assert totals["rows_in"] == 600 == totals["rows"] + totals["filtered"]


def test_rows_left_out_by_a_fraction_are_never_errors_of_later_steps(tmp_path):
    rows = [conversation(number) for number in range(100)]
    kept = ids(convert(tmp_path, rows, "first.jsonl", fraction=0.5))
    for row in rows:
        if row["id"] not in kept:
            row["messages"] = [*row["messages"], {"role": "user", "content": "?"}]
    assert convert(tmp_path, [row for row in rows if row["id"] in kept], "good.jsonl", strict=True)


def test_the_test_split_hangs_on_content_alone(tmp_path):
    convert(tmp_path, TWICE, "a", test_fraction=0.25)
    mixed = random.Random(1).sample(TWICE, len(TWICE))
    convert(tmp_path, mixed, "b", test_fraction=0.25, shuffle=True, rows_per_shard=70)
    for out in ("a", "b"):
        train, test = (texts(tmp_path / out, split) for split in ("train", "test"))
        assert not train & test and len(train | test) == 400
        assert 60 < len(test) < 140
    assert texts(tmp_path / "a", "test") == texts(tmp_path / "b", "test")
    assert ids(rows_of(tmp_path / "a", "test")) == sorted(ids(rows_of(tmp_path / "a", "test")))
    assert {path.name.split("-")[0] for path in shards(tmp_path / "b")} == {"train", "test"}
    assert 'path: "data/test-*.parquet"' in (tmp_path / "a/README.md").read_text()


def sources(tmp_path: Path, weights: list[float]) -> list[dict[str, object]]:
    specs = []
    for number, weight in enumerate(weights):
        rows = [conversation(number * 1000 + row) for row in range(100)]
        specs.append({"source": write_jsonl(tmp_path / f"s{number}.jsonl", rows), "weight": weight})
    return specs


def test_weights_mix_sources_in_proportion(tmp_path):
    found = convert(tmp_path, [], source=sources(tmp_path, [0.5, 2, 1.25]))
    counts = Counter(ids(found))
    by_source = [{number: n for number, n in counts.items() if number // 1000 == source} for source in range(3)]
    assert [sorted(Counter(one.values()).items()) for one in by_source] == [[(1, 50)], [(2, 100)], [(1, 75), (2, 25)]]
    places = [[place for place, number in enumerate(ids(found)) if number // 1000 == source] for source in range(3)]
    assert [abs(np.mean(one) - len(found) / 2) < 3 for one in places] == [True] * 3
    first = [number for number in ids(found) if number // 1000 == 1]
    assert first == [*range(1000, 1100)] * 2
    totals = manifest.read_manifest(tmp_path / "out").totals
    assert {name: totals[name] for name in ("rows_in", "added", "rows", "filtered")} == {
        "rows_in": 300, "added": 125, "rows": 375, "filtered": 50,
    }  # fmt: skip


@pytest.mark.parametrize("weight", ["1e8", "1e300"])
def test_a_weight_that_is_far_too_large(tmp_path: Path, weight: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}] * 6)
    done = run_cli("convert", source, "--weight", f"{source}={weight}", "-o", "out.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (
        2,
        f"error: the weight {float(weight):g} makes more than 500,000,000 rows of `{source}`\n"
        "hint: a weight says how often each row is written: take a smaller one\n",
    )


def test_weights_of_one_leave_sources_one_after_the_other(tmp_path):
    found = convert(tmp_path, [], source=sources(tmp_path, [1, 1]))
    assert ids(found) == [*range(100), *range(1000, 1100)]


EVERYTHING = {"dedup": True, "shuffle": True, "fraction": 0.9, "test_fraction": 0.2, "seed": 7}


CUTS = [{"rows_per_shard": 90}, {"shards": 5, "shard_name": "{shard}-{split}"}]


@pytest.mark.parametrize(
    ("format", "write", "cut"), list(zip(FORMATS, [write_parquet, write_jsonl], CUTS, strict=True))
)
def test_same_bytes_whatever_runs_it_and_however_often_it_is_stopped(tmp_path, format, write, cut, monkeypatch):
    rows = [{"id": number, "messages": row["messages"]} for number, row in enumerate(TWICE)]
    source = [{"source": write(tmp_path / "in", rows), "weight": 1.5}, {"source": write(tmp_path / "more", ROWS[:50])}]
    recipe = Recipe(**{"source": source, "template": "chatml", "keep": "id", "format": format, **cut, **EVERYTHING})
    chatfmt.convert(recipe, out=tmp_path / "serial", executor="serial", workers=1)
    expected = tree(tmp_path / "serial")
    assert manifest.verify(tmp_path / "serial") == [] and len(expected) > 6
    chatfmt.convert(recipe, out=tmp_path / "processes", executor="processes", workers=2)
    assert tree(tmp_path / "processes") == expected
    stops = 0
    for step in range(1, 60, 2):
        with pytest.MonkeyPatch.context() as patched:
            fail_at(patched, step)
            try:
                chatfmt.convert(recipe, out=tmp_path / "stopped", executor="serial", workers=1, resume=stops > 0)
            except KeyboardInterrupt:
                stops += 1
                continue
            break
    assert stops > 2
    assert tree(tmp_path / "stopped") == expected


def fail_at(patched: pytest.MonkeyPatch, number: int) -> None:
    """Interrupt the run at its n-th receipt."""
    real, seen = gather.writers.write_receipt, []

    def write_receipt(*arguments: object) -> None:
        seen.append(arguments)
        if len(seen) == number:
            raise KeyboardInterrupt
        real(*arguments)

    patched.setattr(gather.writers, "write_receipt", write_receipt)


def test_rejects_and_counts_of_reordered_rows(tmp_path):
    lines = [json.dumps(row) for row in TWICE]
    lines[3], lines[555] = '{"id": 3, "messages": 5}', "{"
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = Recipe(
        source=str(tmp_path / "in.jsonl"),
        template="chatml",
        on_error="skip",
        dedup=True,
        shuffle=True,
        rows_per_shard=100,
    )
    summary = chatfmt.convert(recipe, out=tmp_path / "out", workers=1, rejects=tmp_path / "bad.jsonl")
    assert (summary.rows_in, summary.rows, summary.duplicates, summary.rejected) == (600, 400, 198, 2)
    rejects = (tmp_path / "out/.chatfmt/rejects.jsonl").read_bytes()
    assert [json.loads(line)["source"]["row"] for line in rejects.splitlines()] == [3, 555]
    assert (tmp_path / "bad.jsonl").read_bytes() == rejects
    assert manifest.verify(tmp_path / "out") == []


def test_every_row_may_be_left_out(tmp_path):
    assert convert(tmp_path, ROWS[:2], fraction=1e-9) == []
    assert convert(tmp_path, ROWS[:2], "gathered", fraction=1e-9, dedup=True) == []
    assert [path.name for path in shards(tmp_path / "gathered")] == ["train-00000-of-00001.parquet"]


def test_streams_wait_for_the_last_row(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", TWICE)
    whole = run_cli("convert", source, "-t", "chatml", "--dedup", "-q")
    expected = [{"text": chatml(row["messages"])} for row in TWICE[:400]]
    assert from_lines(whole.stdout) == expected and whole.stderr == b""
    piped = run_cli("convert", "-", "-t", "chatml", "--dedup", stdin=Path(source).read_bytes())
    assert piped.stdout == whole.stdout
    assert piped.stderr.decode().splitlines()[1:] == [
        "duplicates dropped: 200 rows",
        "left behind: id (number); --keep all carries it",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "--shuffle"], ["`--shuffle` cannot write before the last row has been read",
                              "name a file with -o, or the source file instead of -"]),
        (["-", "--test-fraction", "0.1"], [
            "`--test-fraction` creates a second split, and a stream holds only one", "name a folder with -o",
        ]),
        (["in.jsonl", "--test-fraction", "0.1", "-o", "x.jsonl"], [
            "`--test-fraction` creates a second split, and one file holds only one", "name a folder with -o",
        ]),
    ],
)  # fmt: skip
def test_selections_that_the_target_cannot_hold(tmp_path, arguments, said):
    write_jsonl(tmp_path / "in.jsonl", ROWS[:3])
    run = run_cli("convert", *arguments, cwd=tmp_path, stdin=b'{"text":"x"}\n')
    assert (run.returncode, run.stderr.decode().splitlines()) == (2, [f"error: {said[0]}", f"hint: {said[1]}"])
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_converter_refuses_to_compare_rows_it_does_not_see():
    for keys in (
        {"dedup": True},
        {"shuffle": True},
        {"test_fraction": 0.1},
        {"source": SourceSpec(source="-", weight=2)},
    ):
        with pytest.raises(UsageError, match="a converter sees one batch"):
            chatfmt.Converter(Recipe(**{"source": "-", **keys}))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 40), st.integers(0, 9))
def test_counts_of_shards_always_balance(rows, rejected, added):
    out = sum(rows)
    read = max(out + rejected - added, 0)
    whole = manifest.Shard("", rows_in=read, rows=out, rejected=rejected, added=out + rejected - read)
    made = gather.share_counts(rows, whole)
    assert [shard.rows for shard in made] == rows and all(map(manifest.balanced, made))
    assert all(min(shard.rows_in, shard.added) >= 0 for shard in made)
    for name in ("rows_in", "added", "rejected"):
        assert sum(getattr(shard, name) for shard in made) == getattr(whole, name)


def test_rows_with_the_same_question_are_in_one_split_and_only_the_first_is_kept(tmp_path):
    rows = [{"meta": {"q": f"q{n % 20}"}, "question": f"q{n % 20}", "answer": f"a{n}", "id": n} for n in range(200)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    splits = {}
    for column in ("question", "meta.q"):
        recipe = chatfmt.Recipe(source=str(source), test_fraction=0.4, split_by=column, keep=["id"], format="jsonl")
        for workers in (1, 2):
            out = tmp_path / f"{column}-{workers}"
            chatfmt.convert(recipe, out, executor="serial" if workers == 1 else "processes", workers=workers)
            found = {
                split: [json.loads(line)["id"] for path in sorted(out.glob(f"data/{split}-*")) for line in path.open()]
                for split in ("train", "test")
            }
            assert splits.setdefault(column, found) == found
    assert splits["question"] == splits["meta.q"]
    train, test = ({number % 20 for number in splits["question"][split]} for split in ("train", "test"))
    assert train | test == set(range(20)) and not train & test and test
    out = tmp_path / "first.jsonl"
    summary = chatfmt.convert(chatfmt.Recipe(source=str(source), dedup_by="question", keep=["id"]), out)
    assert [json.loads(line)["id"] for line in out.open()] == list(range(20))
    assert (summary.rows, summary.duplicates) == (20, 180)


def test_columns_to_split_by_are_checked(tmp_path):
    source = str(write_jsonl(tmp_path / "in.jsonl", [{"question": "q", "answer": "a"}] * 3))
    with pytest.raises(UsageError, match="`--split-by` needs a second split"):
        chatfmt.convert(chatfmt.Recipe(source=source, split_by="question"), tmp_path / "out")
    with pytest.raises(UnknownName, match="unknown column `qestion`"):
        chatfmt.convert(chatfmt.Recipe(source=source, dedup_by="qestion"), tmp_path / "out")


def test_rows_without_a_value_for_dedup_by_are_kept(tmp_path):
    source = tmp_path / "in.jsonl"
    values = [{"id": 1}, {}, {"id": None}, {"id": ""}, {}, {"id": None}, {"id": ""}, {"id": 1}]
    write_jsonl(source, [{"question": "q", "answer": "a", "n": number, **id} for number, id in enumerate(values)])
    done = run_cli("convert", source, "--dedup-by", "id", "--keep", "n", "-o", "out.jsonl", cwd=tmp_path)
    assert [json.loads(line)["n"] for line in (tmp_path / "out.jsonl").open()] == [0, 1, 2, 3, 4, 5, 6]
    assert b"duplicates dropped: 1 row\nwarnings: dedup.no_value 6\n" in done.stderr


def test_selecting_takes_up_to_200_bytes_of_memory_per_row() -> None:
    count = 100_000
    tracemalloc.start()
    start, one = np.arange(count), np.ones(count, np.int64)
    hashes = np.arange(2 * count, dtype=np.uint64).reshape(-1, 2)
    found = Conversations(start, one, hashes, hashes + np.uint64(1), 0 * one, 0 * one)
    chosen = select(Recipe(source="in.jsonl", dedup=True, shuffle=True, test_fraction=0.1), ["train"], found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {name: len(rows) for name, rows in chosen.rows.items()} == {"train": 90_017, "test": 9_983}
    assert peak < 200 * count
