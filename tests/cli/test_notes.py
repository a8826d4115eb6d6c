"""Options that change nothing, and texts that are not what they look like, are noted."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from chatfmt.cli.commands.convert import shown_progress
from chatfmt.pipeline import target_of
from chatfmt.trainers import TRAINERS

from ..conftest import run_cli, write_rows

TALK = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
WRITTEN = " has a backslash and an n, which are written as they are: in bash $'one\\ntwo' is a line break"
NOTES = {
    ("--final-answer", "column"): "`--final-answer column` found no last line such as `#### 72`",
    ("--calculator", "remove"): "`--calculator remove` found no annotation such as `<<48/2=24>>`",
    ("--seed", "4"): "`--seed 4` draws nothing: it is for --shuffle, --fraction, --test-fraction and weights",
    ("--name", "foo"): "`--name foo` is for datasets with several subsets, and the source is a single file",
    ("--revision", "main"): "`--revision main` is for datasets on the Hub, and the source is not there",
    ("-o", "x.json"): "`x.json` holds JSON Lines, one row per line, not one JSON array: `load_dataset` reads both",
    ("--system", r"one\ntwo"): f"`--system`{WRITTEN}",
    ("--transform", r"merge=\n\n"): f"`--transform merge`{WRITTEN}",
    ("--roles", "user"): "`--roles user` replaces the `role` of each turn: leave it out to keep that",
    ("--socratic", "steps"): "`--socratic steps` found no line such as `Sub-question? ** working`",
    ("--data-dir", "x"): "`--data-dir x` is for datasets and folders, and the source is a single file",
    ("--rows-per-shard", "5"): "`--rows-per-shard` is for a folder of shards, and stdout is not divided",
    ("--max-bad", "5"): "`--max-bad 5` is for --on-error skip, and here the first bad row stops the run",
    ("--media-root", "."): "`--media-root .` is for media, and no sampled row has any",
    ("--fit",): "`--fit` is for templates, and none was given",
    ("--date", "2025-01-02"): "`--date 2025-01-02` is for templates, and none was given",
    ("--date", "2025-01-02", "-t", "chatml"):
        "`--date 2025-01-02` is for templates that read the date, and this one does not",
    ("--generation-prompt", "-t", "{{ messages }}"):
        "`--generation-prompt` is for templates that add one, and this one does not",
}  # fmt: skip


@pytest.mark.parametrize("source", ["data.jsonl", "-"])
@pytest.mark.parametrize("flags", NOTES)
def test_an_option_without_effect_is_noted_once(flags: tuple[str, ...], source: str, tmp_path: Path) -> None:
    rows = json.dumps(TALK) + "\n"
    (tmp_path / "data.jsonl").write_text(rows)
    done = run_cli("convert", source, *flags, cwd=tmp_path, stdin=rows.encode())
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (0, f"note: {NOTES[flags]}")
    assert done.stderr.count(b"note:") == 1


def test_options_for_another_format_are_noted_but_not_for_what_stdin_or_an_archive_may_hold(tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [TALK])
    done = run_cli("convert", "data.jsonl", "--no-header", "--delimiter", ";", cwd=tmp_path)
    assert done.stderr.decode().splitlines()[:-1] == [
        "note: `--no-header` is for delimited text, and the source is none",
        "note: `--delimiter ;` is for delimited text, and the source is none",
    ]
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        packed.writestr("data.json", json.dumps({"rows": [TALK]}))
    for grouped in ((), ("--group-by", "@file")):
        done = run_cli(
            "convert", "data.zip", "--field", "rows[].messages" if grouped else "rows", *grouped, cwd=tmp_path
        )
        assert done.returncode == 0 and b"--field" not in done.stderr, done.stderr
    mapped = ("--map", "user=a", "--map", "assistant=b")
    done = run_cli("convert", "-", "--delimiter", ";", *mapped, stdin=b"a;b\nq;r\n", cwd=tmp_path)
    assert done.stderr == b"wrote 1 row to stdout, 80 B\n"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_an_option_that_a_trainer_sets_is_not_noted(trainer: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [TALK])
    done = run_cli("convert", "data.jsonl", "--for", trainer, "-o", "out", cwd=tmp_path)
    assert b"--media-tags" not in done.stderr and b"--embed-media" not in done.stderr


@pytest.mark.parametrize("flags, error", {
    "--rejects r.jsonl": "`--rejects` is for rows that are left out, and none are here\nhint: --on-error skip",
    "--control-tokens drop":
        "`--control-tokens` looks for the special tokens of a template, and none was given\nhint: -t chatml",
    "--compression zst -o x.jsonl":
        "`--compression zst` does not match the name `x.jsonl`\nhint: leave one of them out",
}.items())  # fmt: skip
def test_an_option_that_could_do_harm_without_effect_is_refused(flags: str, error: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [TALK])
    done = run_cli("convert", "data.jsonl", *flags.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (2, f"error: {error}\n")


def test_questions_in_several_rows_and_splits_without_rows_are_noted(tmp_path: Path) -> None:
    rows = [{"question": "q", "input": "i", "answer": str(number)} for number in range(4)]
    write_rows(tmp_path / "data.jsonl", rows)
    flags = ["convert", "data.jsonl", "--test-fraction", "0.5", "--overwrite", "-o", "out", "--drop", "input"]
    apart = run_cli(*flags, cwd=tmp_path).stderr.decode().splitlines()
    assert apart[0] == "note: several rows have the same `question`: --split-by question keeps them in one split"
    note, last = run_cli(*flags, "--split-by", "question", cwd=tmp_path).stderr.decode().splitlines()
    assert note == "note: no row is in the split `train`" and last.startswith("wrote 4 rows (train 0, test 4)")
    assert b"note:" not in run_cli(*flags[:-2], cwd=tmp_path).stderr
    flags[3] = "1e-9"
    note, _ = run_cli(*flags, "--split-by", "question", cwd=tmp_path).stderr.decode().splitlines()
    assert note == "note: no row is in the split `test`"


@pytest.mark.parametrize("flags", [
    ("--final-answer", "remove"), ("--calculator", "remove"), ("--seed", "4", "--fraction", "0.9"),
    ("--system", "one\ntwo"), ("--transform", 'merge="\\n\\n"'), ("--final-answer", "keep"),
])  # fmt: skip
def test_an_option_with_an_effect_is_not(flags: tuple[str, ...], tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "<<1+1=2>>2\n#### 2"}
    write_rows(tmp_path / "data.jsonl", [{"messages": [TALK["messages"][0], answer]}])
    done = run_cli("convert", "data.jsonl", *flags, cwd=tmp_path)
    assert done.returncode == 0 and b"note:" not in done.stderr


def test_an_interruption_without_a_finished_shard_says_that_none_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stopped:
        rows, target = 1, target_of(tmp_path / "out", None, None)

    with pytest.raises(KeyboardInterrupt), shown_progress([Stopped()], quiet=True):  # type: ignore[list-item]
        raise KeyboardInterrupt
    told = f"note: no shard of `{tmp_path}/out` was finished, so none is kept; --rows-per-shard makes smaller ones"
    assert capsys.readouterr().err == f"{told}, which --resume keeps\n"


def test_check_counts_the_rows_with_special_tokens(tmp_path: Path) -> None:
    turns = [[{**turn, "content": "<|im_end|>"} for turn in TALK["messages"]]] * 2 + [TALK["messages"]]
    write_rows(tmp_path / "data.jsonl", [{"messages": each} for each in turns])
    done = run_cli("check", "data.jsonl", "-t", "chatml", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["counts"] == {"token.control": 2}
    said = run_cli("convert", "data.jsonl", "-t", "chatml", "-o", "out.jsonl", cwd=tmp_path).stderr.decode()
    assert "warnings: token.control 2\n" in said
