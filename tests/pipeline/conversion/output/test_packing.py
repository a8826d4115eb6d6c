"""`--pack`: whole rows through the command line, the bins of TRL, and the same bytes however rows come in batches."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.pipeline.conversion.output.packing import Packing, best_fit_decreasing, pack
from chatfmt.pipeline.conversion.row_counts import RowCounts
from tests.conftest import TRL_TEMPLATES, needs_trl, run_cli

from ....conftest import read_rows

tokenizers = pytest.importorskip("tokenizers")
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ ' ' if m.role == 'user' }}{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with one token for each of the words w0 … w99, number 0 … 99."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{n}": n for n in range(100)}, unk_token="w0"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    made.save(str(file))
    file.with_name("words.jinja").write_text(TEMPLATE)
    return file


def conversations(tmp_path: Path, lengths: list[int]) -> Path:
    """A file of conversations of so many tokens, the last of each trained; row n is made of word n."""
    file = tmp_path / "in.jsonl"
    with file.open("w") as lines:
        for row, length in enumerate(lengths):
            turns = [
                {"role": "user", "content": " ".join([f"w{row}"] * (length - 1))},
                {"role": "assistant", "content": f"w{row}"},
            ]
            lines.write(json.dumps({"messages": turns}) + "\n")
    return file


def convert(tokenizer: Path, source: Path, *more: str, code: int = 0) -> str:
    """What a conversion to tokens prints on stderr."""
    command = (
        "convert",
        source.name,
        "-t",
        tokenizer.with_name("words.jinja"),
        "--to",
        "tokens",
        "--tokenizer",
        tokenizer,
        "--no-mask-stop-token",  # the template has none
    )
    done = run_cli(*command, *more, cwd=source.parent)
    assert done.returncode == code, done.stderr.decode()
    return done.stderr.decode()


def test_conversations_are_packed_whole(tokenizer: Path, tmp_path: Path) -> None:
    source = conversations(tmp_path, [3, 5, 2, 4])
    said = convert(tokenizer, source, "--pack", "8", "-o", "out.jsonl")
    assert said.splitlines() == [
        f"wrote 2 rows to `out.jsonl`, {(tmp_path / 'out.jsonl').stat().st_size} B",
        "packed: 4 conversations, 14 tokens, 87.5% full",
    ]
    assert read_rows(tmp_path / "out.jsonl") == [
        {
            "input_ids": [0, 0, 0, 1, 1, 1, 1, 1], "attention_mask": [1] * 8,
            "labels": [-100, -100, 0, -100, -100, -100, -100, 1], "assistant_masks": [0, 0, 1, 0, 0, 0, 0, 1],
            "position_ids": [0, 1, 2, 0, 1, 2, 3, 4], "seq_lengths": [3, 5],
        },
        {
            "input_ids": [2, 2, 3, 3, 3, 3], "attention_mask": [1] * 6,
            "labels": [-100, 2, -100, -100, -100, 3], "assistant_masks": [0, 1, 0, 0, 0, 1],
            "position_ids": [0, 1, 0, 1, 2, 3], "seq_lengths": [2, 4],
        },
    ]  # fmt: skip


def test_wrapped_cuts_the_sequence_of_all_conversations(tokenizer: Path, tmp_path: Path) -> None:
    source = conversations(tmp_path, [3, 9, 2])
    convert(tokenizer, source, "--pack", "4", "--pack-strategy", "wrapped", "-o", "out.jsonl")
    rows = read_rows(tmp_path / "out.jsonl")
    assert [row["input_ids"] for row in rows] == [[0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1], [2, 2]]
    assert [row["labels"] for row in rows] == [[-100, -100, 0, -100], [-100] * 4, [-100, -100, -100, 1], [-100, 2]]
    assert {tuple(row) for row in rows} == {("input_ids", "attention_mask", "labels", "assistant_masks")}


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("parquet", ("--dedup", "--shuffle")),
        ("parquet", ("--pack-strategy", "wrapped")),
        ("jsonl", ("--shuffle",)),
    ],
)
def test_a_folder_is_the_same_for_every_executor(
    tokenizer: Path, tmp_path: Path, form: str, more: tuple[str, ...]
) -> None:
    random.seed(1)
    lengths = [random.randint(1, 12) for _ in range(60)]
    source = conversations(tmp_path, lengths)
    options = ("--pack", "12", "--rows-per-shard", "25", "--format", form, *more)
    for out, executor in (("one", "serial"), ("two", "processes")):
        said = convert(tokenizer, source, *options, "-o", out, "--executor", executor)
        assert f"packed: 60 conversations, {sum(lengths)} tokens" in said
        assert run_cli("verify", tmp_path / out).returncode == 0
    shards = sorted(path.name for path in (tmp_path / "one" / "data").iterdir())
    assert len(shards) == 3
    for path in ("README.md", *(f"data/{name}" for name in shards)):
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    files = [tmp_path / "one" / "data" / name for name in shards]
    rows = [row for file in files for row in (read_rows(file) if form == "jsonl" else pq.read_table(file).to_pylist())]
    assert sorted(token for row in rows for token in row["input_ids"]) == sorted(
        row for row, length in enumerate(lengths) for _ in range(length)
    )
    assert all(len(row["input_ids"]) <= 12 for row in rows)
    if "wrapped" not in more:
        assert ('- name: "seq_lengths"\n    list: "int32"\n') in (tmp_path / "one" / "README.md").read_text()
        for row in rows:
            assert [n for length in row["seq_lengths"] for n in range(length)] == row["position_ids"]


def test_a_conversation_that_is_too_long_is_not_cut(tokenizer: Path, tmp_path: Path) -> None:
    source = conversations(tmp_path, [3, 9, 2])
    assert convert(tokenizer, source, "--pack", "8", "-o", "out.jsonl", code=4).splitlines() == [
        "error: in.jsonl row 1: 9 tokens, over the limit of 8 (line 2)",
        "hint: `--max-tokens 8 --over-length drop` drops such rows, `split-turns` splits them, and "
        "`--pack-strategy wrapped` cuts all rows",
    ]
    convert(tokenizer, source, "--pack", "8", "--max-tokens", "8", "--over-length", "drop", "-o", "out.jsonl")
    assert [row["seq_lengths"] for row in read_rows(tmp_path / "out.jsonl")] == [[3, 2]]
    assert "rejected: 1 of 3 rows (token.length 1)" in convert(
        tokenizer, source, "--pack", "8", "--on-error", "skip", "--max-bad", "1", "-o", "skipped.jsonl"
    )


def test_what_cannot_be_packed(tokenizer: Path, tmp_path: Path) -> None:
    source = conversations(tmp_path, [3])
    source.write_text(source.read_text().replace('{"messages"', '{"topic": "tea", "messages"'))
    assert convert(tokenizer, source, "--pack", "8", "--keep", "topic", code=2).splitlines() == [
        "error: in.jsonl: the column `topic` has a value for each conversation, and `--pack` joins conversations",
        "hint: leave it out of --keep",
    ]
    for options, *said in (
        ("--pack 8", "error: `--pack` packs tokens", "hint: --to tokens --tokenizer FILE"),
        ("--pack-strategy wrapped", "error: `--pack-strategy` needs `--pack`", "hint: --pack N"),
        ("--over-length drop", "error: `--over-length` needs `--max-tokens`", "hint: --max-tokens N"),
    ):
        done = run_cli("convert", source, "-t", "chatml", *options.split())
        assert (done.returncode, done.stderr.decode().splitlines()) == (2, said)


def batches(lengths: list[int], sizes: list[int]) -> list[pa.RecordBatch]:
    """Token columns of rows of these lengths, in batches of these sizes."""
    ids = [[row] * length for row, length in enumerate(lengths)]
    whole = pa.RecordBatch.from_pydict({"input_ids": pa.array(ids, pa.list_(pa.int32()))})
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [whole.slice(start, size) for start, size in zip(starts, sizes, strict=True)]


@pytest.mark.parametrize("strategy", ["bfd", "wrapped"])
def test_rows_do_not_depend_on_batches(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.pipeline.conversion.output.packing.WINDOW", 40)
    random.seed(2)
    lengths = [random.randint(0, 10) for _ in range(2000)]
    found = []
    for sizes in ([2000], [1] * 2000, [7, 0, 993, 500, 500]):
        counts = RowCounts(read=2000, written=2000)
        rows = pa.Table.from_batches(pack(batches(lengths, sizes), Packing(10, strategy), counts)).to_pylist()
        counts.check_balance()
        assert counts.written == len(rows) and counts.packed["tokens"] == sum(lengths)
        found.append(rows)
    assert found[0] == found[1] == found[2]


def trl() -> ModuleType:
    assert TRL_TEMPLATES is not None
    spec = importlib.util.spec_from_file_location("trl_data_utils", TRL_TEMPLATES.parent / "data_utils.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_trl
def test_bins_are_those_of_trl() -> None:
    pytest.importorskip("transformers")
    theirs = trl()
    random.seed(3)
    for capacity in (5, 16, 100):
        lengths = [random.randint(0, capacity) for _ in range(500)]
        (table,) = [pa.Table.from_batches(batches(lengths, [500]))]
        packed = theirs._pack_bfd(table, capacity)["seq_lengths"].to_pylist()
        ours = [[lengths[row] for row in found] for found in best_fit_decreasing(lengths, capacity)]
        assert sorted(map(sorted, ours)) == sorted(map(sorted, packed))


def test_rows_over_max_tokens_are_those_of_the_other_views(tokenizer: Path, tmp_path: Path) -> None:
    source = conversations(tmp_path, [3, 9, 2, 8])
    said = convert(tokenizer, source, "--max-tokens", "7", "--over-length", "drop", "-o", "out.jsonl")
    assert said.splitlines()[1:] == ["filtered out: 2 rows (over_length.drop 2)"]
    assert [row["input_ids"] for row in read_rows(tmp_path / "out.jsonl")] == [[0, 0, 0], [2, 2]]
    assert convert(tokenizer, source, "--max-tokens", "7", "-o", "no.jsonl", code=4).splitlines() == [
        "error: in.jsonl row 1: 9 tokens, over the limit of 7 (line 2)",
        "hint: `--over-length drop` drops such rows, `--over-length split-turns` splits them",
    ]


def test_the_collator_of_trl_keeps_the_conversations_of_a_row_apart(tokenizer: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    sft = pytest.importorskip("trl.trainer.sft_trainer")
    convert(tokenizer, conversations(tmp_path, [3, 5, 2, 4, 7]), "--pack", "8", "-o", "out.jsonl")
    rows = read_rows(tmp_path / "out.jsonl")
    collator = sft.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    found = {name: column[0].tolist() for name, column in collator(rows).items() if name in rows[0]}
    assert found == {name: [n for row in rows for n in row[name]] for name in ("input_ids", "labels", "position_ids")}
