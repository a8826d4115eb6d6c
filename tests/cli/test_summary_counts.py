"""The summary accounts for all data: nothing is dropped silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import run_cli, run_here, write_rows

ASKED = {"role": "user", "content": "Which?"}


def write(path: Path, *conversations: list[dict[str, Any]]) -> None:
    write_rows(path, [{"messages": turns} for turns in conversations])


THOUGHT = [
    ASKED,
    {"role": "assistant", "reasoning_content": "Hm.", "content": "This."},
    ASKED,
    {"role": "assistant", "reasoning_content": "So.", "content": "That."},
]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reasoning_omitted_by_design_is_reported(workers, tmp_path):
    write(tmp_path / "in.jsonl", *[THOUGHT] * 5, [ASKED, {"role": "assistant", "content": "This."}])
    options = ("-t", "qwen3", "--workers", workers, "--rows-per-shard", "2", "--format", "jsonl")
    run = run_cli("convert", "in.jsonl", *options, "-o", "out", cwd=tmp_path)
    told = run.stderr.decode().splitlines()
    assert (run.returncode, told[1:]) == (0, ["left out by the template: reasoning of earlier answers"])
    texts = [json.loads(line)["text"] for shard in sorted(tmp_path.glob("out/data/*")) for line in shard.open()]
    assert [("Hm." in text, "So." in text) for text in texts] == [(False, True)] * 5 + [(False, False)]
    manifest = json.loads((tmp_path / "out/.chatfmt/manifest.json").read_text())
    assert [shard["counts"] for shard in manifest["shards"]] == [{}] * 3
    piped = run_cli("convert", "-", "-t", "qwen3", cwd=tmp_path, stdin=(tmp_path / "in.jsonl").read_bytes())
    assert piped.stderr.decode().splitlines()[1:] == told[1:]
    report = run_cli("convert", "in.jsonl", *options, "-o", "again", "--json", cwd=tmp_path)
    assert json.loads(report.stdout)["left_out"] == ["reasoning of earlier answers"]


def test_allowed_losses_are_reported_only_where_they_happen(tmp_path):
    (tmp_path / "t.jinja").write_text("{% for m in messages if m.role != 'system' %}{{ m.content }}\n{% endfor %}")
    said = [ASKED, {"role": "assistant", "content": "This."}]
    write(tmp_path / "with.jsonl", [{"role": "system", "content": "Be kind."}, *said])
    write(tmp_path / "without.jsonl", said)
    told = {
        name: run_here("convert", f"{name}.jsonl", "-t", "t.jinja", "--allow-loss", "system", cwd=tmp_path).stderr
        for name in ("with", "without")
    }
    # in one process: what the first run has seen is not reported by the second
    assert told["with"].decode().splitlines()[1:] == ["left out by the template: system"]
    assert told["without"].decode().splitlines()[1:] == []


@pytest.mark.parametrize(
    ("options", "rows"),
    [(["--skip", "2"], "train[2:]"), (["--limit", "0"], "train[:0]"), (["--skip", "9"], "train[9:]")],
)
def test_a_slice_without_rows_is_the_same_error_from_a_file_and_from_a_pipe(options, rows, tmp_path):
    write(tmp_path / "in.jsonl", [ASKED], [ASKED])
    hint = "hint: choose other rows with `--skip`, `--limit` or `--split`, or use `--allow-empty` if this is intended"
    for source in ("in.jsonl", "-"):
        data = (tmp_path / "in.jsonl").read_bytes() if source == "-" else b""
        run = run_cli("convert", source, "-t", "chatml", *options, cwd=tmp_path, stdin=data)
        assert (run.returncode, run.stdout) == (3, b"")
        assert run.stderr.decode().splitlines() == [f"error: {source.replace('-', 'stdin')}: no rows in `{rows}`", hint]
        empty = run_cli("convert", source, "-t", "chatml", *options, "--allow-empty", cwd=tmp_path, stdin=data)
        assert (empty.returncode, empty.stdout) == (0, b"")


def test_rejects_of_a_pipe_without_one_good_row_are_kept(tmp_path):
    options = ("-t", "chatml", "--on-error", "skip", "--rejects", "bad.jsonl")
    run = run_cli("convert", "-", *options, cwd=tmp_path, stdin=b"x\n[]\n")
    assert (run.returncode, run.stdout) == (1, b"")
    assert run.stderr.decode().splitlines()[0] == "error: all 2 rows were rejected: 1 json.not_object, 1 json.syntax"
    kept = [json.loads(line) for line in (tmp_path / "bad.jsonl").open()]
    assert [(row["code"], row["raw"]["data"]) for row in kept] == [("json.syntax", "x"), ("json.not_object", "[]")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl"]


def test_a_file_that_holds_no_rejects_is_not_replaced_by_them(tmp_path):
    rows, options = b'x\n{"messages": [{"role": "user", "content": "a"}]}\n', ("--on-error", "skip", "--max-bad", "90%")
    (tmp_path / "in.jsonl").write_bytes(rows)
    for source in ("-", "in.jsonl"):
        (tmp_path / "bad.jsonl").write_text("mine\n")
        command = ("convert", source, "-t", "chatml", *options, "--rejects", "bad.jsonl")
        refused = run_cli(*command, cwd=tmp_path, stdin=rows)
        assert (refused.returncode, refused.stdout) == (5, b"")
        assert refused.stderr.decode().splitlines() == [
            "error: `bad.jsonl` already exists and holds no rejects",
            "hint: name another file with `--rejects`, or replace it with `--overwrite`",
        ]
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            "in.jsonl": rows,
            "bad.jsonl": b"mine\n",
        }
        for more in (("--overwrite",), ()):
            assert run_cli(*command, *more, cwd=tmp_path, stdin=rows).returncode == 0
            assert [json.loads(line)["code"] for line in (tmp_path / "bad.jsonl").open()] == ["json.syntax"]


def test_fit_reports_only_changes_that_it_makes(tmp_path):
    write(tmp_path / "in.jsonl", [ASKED, {"role": "assistant", "content": "This."}])
    run = run_cli("convert", "in.jsonl", "-t", "gemma", "-o", "out", "--dry-run", cwd=tmp_path)
    told = [line for line in run.stdout.decode().splitlines() if line.startswith("with this template, data other")]
    assert told == [
        "with this template, data other than plain text may need --fit (developer=system, parts=flatten, "
        "reasoning=inline, system_turns=fold, merge='\"\\n\\n\"') and --bos strip"
    ]


def test_rejects_of_a_file_are_beside_it_and_those_of_a_folder_inside(tmp_path):
    (tmp_path / "in.jsonl").write_text('x\n{"messages": [{"role": "user", "content": "a"}]}\n')
    options = ("-t", "chatml", "--on-error", "skip", "--max-bad", "90%")
    for out, kept in (("o.jsonl.gz", "o.rejects.jsonl"), ("out", "out/.chatfmt/rejects.jsonl")):
        run = run_cli("convert", "in.jsonl", *options, "-o", out, cwd=tmp_path)
        assert run.stderr.decode().splitlines()[1] == f"rejected: 1 of 2 rows (json.syntax 1), in `{kept}`"
        assert [json.loads(line)["code"] for line in (tmp_path / kept).open()] == ["json.syntax"]
    (tmp_path / "good.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n' * 3)
    run = run_cli("convert", "good.jsonl", *options, "--rows-per-shard", "1", "-o", "g.jsonl", "--json", cwd=tmp_path)
    assert (json.loads(run.stdout)["already_complete"], json.loads(run.stdout)["rejects"]) == (False, "")
    assert not (tmp_path / "g.rejects.jsonl").exists()
    again = run_cli("convert", "good.jsonl", "-t", "chatml", "--rows-per-shard", "1", "-o", "h.jsonl", cwd=tmp_path)
    assert again.stderr.decode().splitlines() == [
        "note: `--rows-per-shard` is for a folder of shards, and `h.jsonl` is not divided",
        "wrote 3 rows to `h.jsonl`, 129 B", "warnings: msg.ends_user 3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text, variable", [("False", False), ("None", None), ('"True"', "True"), ("1", 1), ("no", "no")]
)
def test_variables_are_json_or_words_of_python(text, variable, tmp_path):
    write(tmp_path / "in.jsonl", [ASKED])
    plan = run_cli("convert", "in.jsonl", "-t", "chatml", "--var", f"x={text}", "--dry-run", "--json", cwd=tmp_path)
    assert json.loads(plan.stdout)["recipe"]["var"] == {"x": variable}
