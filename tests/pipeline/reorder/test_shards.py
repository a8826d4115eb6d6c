"""`--shards`, `--tokens-per-shard` and `--shard-name`: how many files there are, and their names."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from chatfmt.cli import main

from ...conftest import write_rows

WORDS = [1, 2, 3, 4, 9, 1, 1]
ROWS = [
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " ".join(["a"] * n)}], "id": n}
    for n in WORDS
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("in.jsonl"), ROWS)


def convert(*flags: str, source: str = "in.jsonl", out: str = "out") -> dict[str, list[int]]:
    """The numbers of words in the rows of each file."""
    command = ["convert", source, *flags, "-o", out, "--keep", "id", "-q", "--executor", "serial"]
    assert main(command) == 0 and main(["verify", out]) == 0
    return {path.name: numbers(path) for path in sorted(Path(out, "data").iterdir())}


def numbers(path: Path) -> list[int]:
    if path.suffix == ".parquet":
        return [int(n) for n in pq.read_table(path).column("id").to_pylist()]
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("count", "rows"), [
    (1, [WORDS]), (3, [[1, 2, 3], [4, 9], [1, 1]]), (7, [[n] for n in WORDS]), (9, [*([n] for n in WORDS), [], []]),
])  # fmt: skip
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_there_are_exactly_n_shards_with_equal_numbers_of_rows(count: int, rows: list[list[int]], format: str) -> None:
    found = convert("--shards", str(count), "--format", format)
    assert found == {f"train-{index:05d}-of-{count:05d}.{format}": mine for index, mine in enumerate(rows)}


def test_shards_count_the_rows_that_are_left_of_all_sources() -> None:
    Path("r.yaml").write_text("source: [in.jsonl, in.jsonl]\nshards: 2\nwhere: id > 1\n")
    assert list(convert(source="r.yaml").values()) == [[2, 3, 4, 9], [2, 3, 4, 9]]
    found = convert("--shards", "2", "--test-fraction", "0.3", "--shuffle", "--split-by", "id", out="split")
    assert sorted(name.split("-")[0] for name in found) == ["test", "test", "train", "train"]
    assert sorted(n for mine in found.values() for n in mine) == sorted(WORDS)


def test_a_shard_has_at_most_so_many_tokens_or_one_row(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save("words.json")
    flags = ["-t", "{user_message} {assistant_message}", "--tokenizer", "words.json", "--tokens-per-shard", "8"]
    expected = [[1, 2], [3], [4], [9], [1, 1]]  # each row has one token more, its question
    assert list(convert(*flags).values()) == expected
    tokens = ["--to", "tokens", "--no-mask-stop-token", "-o", "ids", "-q", "--executor", "serial"]
    assert main(["convert", "in.jsonl", *flags, *tokens]) == 0
    counts = [[len(ids) for ids in pq.read_table(path).column("input_ids").to_pylist()]
              for path in sorted(Path("ids/data").iterdir())]  # fmt: skip
    assert counts == [[n + 1 for n in mine] for mine in expected]


def test_names_follow_the_pattern_and_the_card_finds_them(capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--shards", "2", "--test-fraction", "0.3", "--split-by", "id", "--shard-name"]
    named += ["part-{shard:02d}-{split}"]
    assert sorted(convert(*named)) == [
        "part-00-test.parquet", "part-00-train.parquet", "part-01-test.parquet", "part-01-train.parquet",
    ]  # fmt: skip
    card = yaml.safe_load(Path("out/README.md").read_text().split("---\n")[1])
    assert card["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/part-*-train.parquet"}, {"split": "test", "path": "data/part-*-test.parquet"},
    ]  # fmt: skip
    capsys.readouterr()
    command = ["convert", "out", "--split", "test", "--keep", "id", "-q", "--executor", "serial"]
    assert main(command) == 0
    read = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert read == [n for path in sorted(Path("out/data").glob("*-test.parquet")) for n in numbers(path)]


def test_one_shard_needs_no_number() -> None:
    assert list(convert("--shards", "1", "--shard-name", "{split}", "--format", "jsonl")) == ["train.jsonl"]
    assert '    path: "data/train.jsonl"\n' in Path("out/README.md").read_text()


def test_the_plan_names_the_shards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "in.jsonl", "--shards", "2", "--test-fraction", "0.5", "-o", "out", "--dry-run"]) == 0
    assert "reads 7 rows, writes `messages` to 4 shards: data/train-00000-of-00002.parquet …" in capsys.readouterr().out


PATTERN = "does not name each shard of each split"
SUCH_AS = "such as '{split}-{shard:05d}-of-{shards:05d}': letters, digits, `_` and `-`, with `-` around {split}"


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (["--shards", "2", "-o", "x.jsonl"], "`--shards` divides a folder of shards", "name a folder with -o"),
        (["--shards", "0"], "`--shards` must be 1 or more, not `0`", None),
        (["--shards", "2000"], "`--shards 2000` is more than the rows of `train`: 7", "--shards 7"),
        (["--shards", "2", "--rows-per-shard", "5"], "`--rows-per-shard` and `--shards` cannot be combined", None),
        (["--tokens-per-shard", "9"], "`--tokens-per-shard` counts the tokens of texts",
         "-t chatml --tokenizer FILE --to text"),
        *((["--shard-name", pattern], f"`--shard-name {pattern}` {PATTERN}", SUCH_AS) for pattern in (
            "{split}", "{shard}", "{split}{shard}", "{split}-{shard}/a", "{split}-{shard", "{split}-{0}",
            "{split}-{shard:.1f}", "{split}-{shard.x}", "x_{split}-{shard}", "{split}-{shard}-{rows}",
            "{split}-{shard!s:.1}", "../../../../x-{split}-{shard}", "a/b-{split}-{shard}", "{split}-{shard:0250d}",
        )),
    ],
)  # fmt: skip
def test_what_names_no_shards_is_refused(
    flags: list[str], message: str, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "-o" in flags else ["-o", "out"]
    assert main(["convert", "in.jsonl", *out, *flags, "--executor", "serial"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    assert sorted(path.name for path in Path().iterdir()) == ["in.jsonl"]
