"""Files, folders and globs: their splits, and what is said of those that are missing."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from chatfmt.errors import InputError, UnknownName, UsageError
from chatfmt.sources import Source, plan_splits, read, resolve

from ...conftest import run_cli, run_here
from ..reading import as_parquet, read_all, rows_of, written

LINES = b"".join(b'{"a": "%d %s"}\n' % (n, b"xyz"[n % 3 : n % 3 + 1] * (n % 50)) for n in range(3000))


def splits_of(source: Source) -> dict[str, list[str]]:
    return {split: [file.shown for file in files] for split, files in source.splits.items()}


ROW = b'{"a": 1}\n'
FOLDERS: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "any names": (["b.jsonl", "a.jsonl", "c/d.jsonl"], {"train": ["a.jsonl", "b.jsonl", "c/d.jsonl"]}),
    "hidden": (["a.jsonl", ".b.jsonl", "_c.jsonl", ".d/e.jsonl", "_f/g.jsonl", "x.txt"], {"train": ["a.jsonl"]}),
    "names": (
        ["my-train.jsonl", "my_dev.jsonl", "eval.jsonl", "latest.jsonl"],
        {"train": ["my-train.jsonl"], "validation": ["my_dev.jsonl"], "test": ["eval.jsonl"]},
    ),
    "folders": (
        ["test/a.jsonl", "training/b.jsonl", "train.jsonl"],
        {"train": ["training/b.jsonl"], "test": ["test/a.jsonl"]},
    ),
    "shards": (
        ["data/sft-00001-of-00002.jsonl", "data/sft-00000-of-00002.jsonl", "data/test-00000-of-00001.jsonl", "x.jsonl"],
        {
            "test": ["data/test-00000-of-00001.jsonl"],
            "sft": ["data/sft-00000-of-00002.jsonl", "data/sft-00001-of-00002.jsonl"],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_read_as_datasets_reads_them(name: str, tmp_path: Path) -> None:
    files, splits = FOLDERS[name]
    for file in files:
        written(tmp_path, ROW, file)
    found = splits_of(resolve(str(tmp_path)))
    assert found == splits and list(found) == list(splits)


@pytest.mark.parametrize(
    ("source", "options"),
    [("d", {}), ("d/**/*.jsonl", {}), ("d/closed/*.jsonl", {}), ("d", {"data_files": ["**/*.jsonl"]})],
)
def test_a_folder_that_cannot_be_listed_is_not_left_out(
    source: str, options: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> object:  # root may list all
        if str(path) == "d/closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    for file in ("d/a.jsonl", "d/closed/b.jsonl"):
        written(tmp_path, ROW, file)
    monkeypatch.chdir(tmp_path)
    listed = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError) as caught:
        resolve(source, **options)
    assert caught.value.message == "cannot list the folder `d/closed`: Permission denied"
    assert caught.value.hint == "check who may read it with `ls -ld d/closed`, or name the files to read"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(["d"], "`d` has"), (["d/**"], "`d/**` matches"), (["d", "--data-files", "**/*.csv"], "`d/**/*.csv` matches")],
)
def test_folders_that_are_deeper_than_python_lists_are_refused(
    arguments: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "d"
    for _ in range(5):
        folder = folder / "/".join("a" * 230)
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        folder = Path()
    try:
        run = run_here("inspect", *arguments, cwd=tmp_path)
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # too deep for pytest also
    said = (
        f"error: {found} folders inside each other, more than 500 deep\nhint: move the files to a folder further up\n"
    )
    assert (run.returncode, run.stderr.decode()) == (3, said)


CARD = b"""---
license: mit
configs:
- config_name: one
  data_files:
  - {split: train, path: a/*.jsonl}
  - {split: extra, path: [b.jsonl, c.jsonl]}
- config_name: two
  data_files: c.jsonl
- config_name: out
  data_files: ../secret.jsonl
- config_name: linked
  data_files: link.jsonl
---
"""


def test_the_card_selects_files_inside_the_folder_only(tmp_path: Path) -> None:
    for file in ("d/a/1.jsonl", "d/a/2.jsonl", "d/b.jsonl", "d/c.jsonl", "secret.jsonl"):
        written(tmp_path, ROW, file)
    written(tmp_path, CARD, "d/README.md")
    (tmp_path / "d/link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    folder = str(tmp_path / "d")
    one = resolve(folder, name="one")
    assert splits_of(one) == {"train": ["a/1.jsonl", "a/2.jsonl"], "extra": ["b.jsonl", "c.jsonl"]}
    assert (one.subset, one.licence) == ("one", "mit")
    assert splits_of(resolve(folder, name="one", split="extra[:1]")) == {"extra": ["b.jsonl", "c.jsonl"]}
    assert splits_of(resolve(folder, name="two")) == {"train": ["c.jsonl"]}
    assert splits_of(resolve(folder, data_files=["test=a/*.jsonl", "b.jsonl"])) == {
        "test": ["a/1.jsonl", "a/2.jsonl"], "train": ["b.jsonl"],
    }  # fmt: skip
    assert splits_of(resolve(folder, data_dir="a")) == {"train": ["a/1.jsonl", "a/2.jsonl"]}
    for outside in ({"name": "out"}, {"name": "linked"}, {"data_dir": ".."}, {"data_files": ["../*.jsonl"]}):
        with pytest.raises(InputError) as caught:
            resolve(folder, **outside)
        assert caught.value.code == "file.outside"
    with pytest.raises(UnknownName):
        resolve(folder, name="tow")
    with pytest.raises(UsageError) as which:
        resolve(folder)
    assert which.value.message == "there are several subsets: `one`, `two`, `out`, `linked`"


def test_folders_of_save_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"text": f"{n}", "messages": [{"role": "user", "content": "x"}]} for n in range(20)]
    saved = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows), "dev": datasets.Dataset.from_list(rows[:3])}
    )
    saved.save_to_disk(str(tmp_path / "dict"), num_shards={"train": 2, "dev": 1})
    source = resolve(str(tmp_path / "dict"))
    assert {split: len(files) for split, files in source.splits.items()} == {"train": 2, "dev": 1}
    got = [row for s in plan_splits(source, "all", rows_per_shard=7) for p in s for row in rows_of(read(p))]
    assert got == rows + rows[:3]
    assert read_all(str(tmp_path / "dict" / "dev")) == rows[:3]


def test_missing_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source, said in {
        "nothing.jsonl": "no such file `nothing.jsonl`", "data/train.parquet": "no such file `data/train.parquet`",
        "./x": "no such file `./x`", "/a/b": "no such file `/a/b`", "a/b/c": "no such file `a/b/c`",
        "*.jsonl": "no file matches `*.jsonl`", "x.jsonl.gz": "no such file `x.jsonl.gz`",
    }.items():  # fmt: skip
        with pytest.raises(InputError) as caught:
            resolve(source)
        assert (caught.value.message, caught.value.code) == (said, "file.missing")
    (tmp_path / "gsm8k").mkdir()
    with pytest.raises(InputError) as empty:
        resolve("gsm8k")
    names = "`*.jsonl`, `*.ndjson`, `*.jl`, `*.json`, `*.csv`, `*.tsv`, `*.tab`, `*.parquet`, `*.arrow`, `*.feather`"
    assert (empty.value.message, empty.value.hint) == ("no data files in `gsm8k`", f"data files are named {names}")
    written(tmp_path, ROW, "gsm8k/more/x.txt")
    with pytest.raises(InputError) as empty:
        resolve("gsm8k")
    assert empty.value.hint == f"data files are named {names}; a glob reads others, as in 'gsm8k/more/*.txt'"
    written(tmp_path, ROW, "gsm8k/x.jsonl")
    assert splits_of(resolve("gsm8k")) == {"train": ["x.jsonl"]}
    assert splits_of(resolve("gsm8k/*.jsonl")) == {"train": ["gsm8k/x.jsonl"]}
    assert resolve("-").kind == "stdin"


def test_urls_go_through_fsspec() -> None:
    import fsspec

    with fsspec.open("memory://chatfmt/d/x.jsonl", "wb") as file:
        file.write(LINES)
    with fsspec.open("memory://chatfmt/d/y.parquet", "wb") as file:
        file.write(as_parquet(pa.table({"a": ["x", "y"]})))
    assert len(read_all("memory://chatfmt/d/x.jsonl", rows_per_shard=1000)) == 3000
    assert read_all("memory://chatfmt/d/*.parquet") == [{"a": "x"}, {"a": "y"}]
    with fsspec.open("memory://chatfmt/d/test.jsonl", "wb") as file:
        file.write(ROW)
    assert splits_of(resolve("memory://chatfmt/d")) == {"test": ["memory:///chatfmt/d/test.jsonl"]}
    with fsspec.open("memory://chatfmt/d/train.jsonl", "wb") as file:
        file.write(LINES)
    assert read_all("memory://chatfmt/d") == read_all("memory://chatfmt/d/train.jsonl")
    assert splits_of(resolve("memory://chatfmt/d", split="test")) == {"test": ["memory:///chatfmt/d/test.jsonl"]}
    with pytest.raises(InputError) as caught:
        resolve("memory://chatfmt/z.jsonl")
    assert caught.value.message == "no such file `memory://chatfmt/z.jsonl`"


def test_a_missing_file_suggests_similar_names(tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_bytes(b"{}\n")
    (tmp_path / "talks.json").symlink_to("nowhere")
    hints = {"talk.jsonl": f"did you mean `{tmp_path / 'talks.jsonl'}`?", "zzz": "", "talks.jsonl/x.jsonl": ""}
    hints |= {"no/x.jsonl": f"the folder `{tmp_path / 'no'}` does not exist either"}
    for name, hint in hints.items():
        with pytest.raises(InputError) as caught:
            resolve(str(tmp_path / name))
        assert caught.value.hint == hint, name


def test_a_misspelt_file_that_could_be_a_dataset_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "talks.csv").write_text("question,answer\n")
    run = run_cli("convert", "talks.cvs", cwd=tmp_path, env={"HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(tmp_path)})
    assert (run.returncode, run.stderr.decode().splitlines()[1:]) == (3, ["hint: did you mean `talks.csv`?"])


def test_files_without_a_split_are_noted(tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        written(tmp_path, b'{"a": "x"}\n', name)
    assert resolve(str(tmp_path)).notes == ()
    written(tmp_path, b'{"a": "x"}\n', "more.jsonl")
    said = f"skipped 1 data file of `{tmp_path}` without a split (`more.jsonl`); name them with --data-files"
    assert resolve(str(tmp_path)).notes == (said,)
    written(tmp_path, b'{"a": "x"}\n', "deep/some.csv")
    said = f"skipped 2 data files of `{tmp_path}` without a split (`deep/some.csv` …); name them with --data-files"
    assert resolve(str(tmp_path)).notes == (said,)
    assert resolve(str(tmp_path), data_files=["*.jsonl"]).notes == ()


def test_files_in_other_formats_are_noted(tmp_path: Path) -> None:
    names = ("a.jsonl", "README.md", "LICENSE", "config.json", "cat.png", ".cache.bin", "_state.db", "logs/run.txt")
    for name in names:
        written(tmp_path, b'{"a": "x"}\n', name)
    said = f"skipped 1 file of `{tmp_path}` in other formats (`logs/run.txt`); convert each by itself"
    assert resolve(str(tmp_path)).notes == (said,)
    written(tmp_path, b"", "answers.xlsx")
    said = f"skipped 2 files of `{tmp_path}` in other formats (`answers.xlsx` …); convert each by itself"
    assert resolve(str(tmp_path)).notes == (said,)


def test_a_glob_that_matches_a_pipe_with_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    os.mkfifo(tmp_path / "b.jsonl")
    done = run_cli("convert", "*.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout.decode()) == (3, "")
    assert done.stderr.decode() == (
        "error: `b.jsonl` is not a regular file\n"
        "hint: a file is read more than once: pipe rows in instead, `… | chatfmt convert -`\n"
    )
