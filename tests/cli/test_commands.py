"""The commands as users run them: complete output, complete errors, exit codes, and only data on stdout."""

from __future__ import annotations

import json

import pytest

from ..conftest import EVERYDAY, run_cli, run_process, said


def test_version():
    for arguments in (["--version"], ["templates", "--help"]):
        assert run_process(*arguments).returncode == 0
    assert run_process("--version").stdout == b"chatfmt 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        (["convert", str(EVERYDAY), "--split", "test"], 2, [
            f"error: {EVERYDAY}: unknown split `test`", "hint: one of: train",
        ]),
        (["convert", str(EVERYDAY), "--map", "messages"], 2, [
            "error: `--map messages` is not of the form NAME=VALUE", "hint: --map NAME=VALUE",
        ]),
        (["convert", str(EVERYDAY), "--transform", "mrge=x"], 2, [
            "error: unknown transform `mrge`", "hint: did you mean `merge`?",
        ]),
        (["convert", str(EVERYDAY), "-o", "out.csv"], 2, [
            "error: unsupported output format: `out.csv`", "hint: name a .jsonl or .parquet file, or a folder",
        ]),
        (["convert", str(EVERYDAY), "-o", "out.jsonl.br"], 2, [
            "error: unsupported output format: `out.jsonl.br`", "hint: name a .jsonl or .parquet file, or a folder",
        ]),
        (["convert", str(EVERYDAY), "--fail-on", "msg.odrer"], 2, [
            f"error: {EVERYDAY}: unknown check `msg.odrer`", "hint: did you mean `msg.order`?",
        ]),
        (["convert", str(EVERYDAY), "--mask"], 2, [
            "error: `--mask` applies to rendered text, and no template was given", "hint: -t chatml",
        ]),
        (["convert", str(EVERYDAY), "--generation-prompt"], 2, [
            "error: `--generation-prompt` applies to rendered text, and no template was given", "hint: -t chatml",
        ]),
        (["convert", str(EVERYDAY), "-t", "chatml", "--generation-prompt", "--continue-final"], 2, [
            "error: `--generation-prompt` and `--continue-final` cannot be combined",
        ]),
        *((["convert", str(EVERYDAY), "-t", template, "--continue-final", "--mask"], 2, [
            f"error: {EVERYDAY}: `--continue-final` cannot be combined with spans of trained text",
            "hint: leave one out",
        ]) for template in ("chatml", "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")),
        (["convert", str(EVERYDAY), "--zzz"], 2, ["error: no such option: --zzz", "hint: chatfmt convert --help-all"]),
        (["inspect", str(EVERYDAY), "--fit"], 2, [
            "error: no such option: --fit",
            "hint: `chatfmt convert` has this option; chatfmt inspect --help-all has those of this command",
        ]),
        (["convert", str(EVERYDAY), "--keep", "topic.of_the_day"], 2, [
            f"error: {EVERYDAY}: unknown column `topic.of_the_day`", "hint: did you mean `topic`?",
        ]),
        (["convert", str(EVERYDAY), "--templte", "x"], 2, [
            "error: no such option: --templte", "hint: did you mean `--template`?",
        ]),
        (["convert", str(EVERYDAY), "--mask-lst"], 2, [
            "error: no such option: --mask-lst", "hint: did you mean `--mask-last`?",
        ]),
        (["convert", str(EVERYDAY), "--test-fraction", "2.5%"], 2, [
            "error: `--test-fraction` must be a number, not `2.5%`", "hint: --test-fraction 0.025",
        ]),
        (["convert", str(EVERYDAY), "--weight", "other=2"], 2, ["error: unknown source `other`"]),
        (["convert", "gsm8k", "--weight", "gsm8k=2"], 2, [
            "error: `--weight` is for sources named on the command line",
            "hint: a recipe has the weight beside the source",
        ]),
        (["convert", str(EVERYDAY), "--mask", "yes"], 2,
         ["error: there is no source `yes`", "hint: flags such as --mask and --no-mask take no value"]),
        (["convert", str(EVERYDAY), str(EVERYDAY).replace("every", "evry")], 3,
         [f"error: no such file `{str(EVERYDAY).replace('every', 'evry')}`",
          f"hint: did you mean `{EVERYDAY}`? Or to write there: -o {str(EVERYDAY).replace('every', 'evry')}"]),
        (["convert", str(EVERYDAY), "out/"], 3, ["error: no such file `out/`", "hint: to write there: -o out/"]),
        ([str(EVERYDAY)], 2, [f"error: no such command `{EVERYDAY}`", f"hint: chatfmt inspect {EVERYDAY}"]),
        (["convrt"], 2, ["error: no such command `convrt`", "hint: did you mean `convert`?"]),
        (["recipes", "show", "gsm9k"], 2, ["error: unknown recipe `gsm9k`", "hint: did you mean `gsm8k`?"]),
    ],
)  # fmt: skip
def test_errors_are_a_line_and_a_hint(arguments, code, lines, tmp_path):
    run = run_cli(*arguments, cwd=tmp_path)
    found = said(run)
    assert run.returncode == code, found
    assert found[: len(lines)] == lines
    assert len(found) <= 2 and found[0].startswith("error: ")


def test_a_missing_file_for_a_recipe_is_not_taken_for_the_output(tmp_path):
    run = run_cli("convert", "telegram", "no.json", "--me", "Ann", cwd=tmp_path)
    assert (run.returncode, said(run)) == (3, ["error: no such file `no.json`"])
    assert list(tmp_path.iterdir()) == []


def test_a_summary_as_json(tmp_path):
    run = run_cli("convert", EVERYDAY, "-t", "chatml", "--system", "Hi.", "-o", tmp_path / "out.jsonl", "--json")
    summary = json.loads(run.stdout)
    assert {key: summary[key] for key in ("schema", "rows_in", "rows", "changes", "splits", "shards")} == {
        "schema": 1, "rows_in": 12, "rows": 12, "changes": {"system": 8}, "splits": {"train": 12}, "shards": 1,
    }  # fmt: skip
    assert run.stderr == b""
