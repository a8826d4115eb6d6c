"""Names that mean nothing are refused, with the nearest one that does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatfmt.cli import main

from ..conftest import run_cli, write_rows

TALK = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
TYPOS = {
    "--map assistent=x": ("unknown field `assistent`", "did you mean `assistant`?"),
    "--map messages.contents=text": ("unknown field `messages.contents`", "did you mean `messages.content`?"),
    "--map messages.content=text": (
        "`--map messages.content=text`: no sampled turn has that key", "their keys are `role`, `content`",
    ),
    "--dialect-option mc_anwser=text": ("unknown dialect option `mc_anwser`", "did you mean `mc_answer`?"),
    "-t chatml --allow-loss sytem": ("unknown loss `sytem`", "did you mean `system`?"),
    "--role bot=asistant": ("unknown role `asistant`", "did you mean `assistant`?"),
    "-t chatml --mask --train-roles asistant": ("unknown role `asistant`", "did you mean `assistant`?"),
    "-t chatml --mask --train-roles assistant,tool": (
        "no sampled row has a turn of the role `tool`, which `--train-roles` names",
        "the roles are `user`, `assistant`",
    ),
    "--map user=a --map prompt=b": (
        "`--map user=a` and `--map prompt=b` name one part of the row", "leave one of them out",
    ),
    "--role bot=ROLE": ("unknown role `ROLE`", "one of: assistant, developer, system, tool, user"),
    "--map transcript=messages --marker Ann:=ROLE": (
        "unknown role of the marker `Ann:` `ROLE`", "one of: assistant, developer, system, tool, user",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flags", TYPOS)
def test_a_name_that_means_nothing(flags: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [TALK])
    message, hint = TYPOS[flags]
    done = run_cli("convert", tmp_path / "data.jsonl", *flags.split(), "-o", tmp_path / "out.jsonl")
    assert done.stderr.decode() == f"error: {tmp_path}/data.jsonl: {message}\nhint: {hint}\n"
    assert done.returncode == 2
    assert not (tmp_path / "out.jsonl").exists()


REFUSED = {
    "data.jsonl --system-prompt x": ("no such option: --system-prompt", "did you mean `--system`?"),
    "data.jsonl --for openai --mask": (
        "`--mask` applies to rendered text, and no template was given",
        "leave out --mask: the trainer renders the rows and masks them itself",
    ),
    "data.jsonl -t qwen-3-8b": (
        "unknown template `qwen-3-8b`",
        "`chatfmt templates list` has the names; a path or a Hub model id has a `/`",
    ),
    "dat.jsonl": ("no such file `dat.jsonl`", "did you mean `data.jsonl`?"),
    "nofile.jsonl": ("no such file `nofile.jsonl`", ""),
    "- -t chatml --shuffle": (
        "`--shuffle` cannot write before the last row has been read",
        "name a file with -o, or the source file instead of -",
    ),
}  # fmt: skip


@pytest.mark.parametrize("arguments", REFUSED)
def test_the_hint_names_only_what_is_meant(arguments: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [TALK])
    message, hint = REFUSED[arguments]
    done = run_cli("convert", *arguments.split(), cwd=tmp_path, stdin=b"")
    assert done.stderr.decode() == f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    assert done.returncode in (2, 3) and done.stdout == b""


def test_an_option_without_its_value_leads_to_the_options_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "data.jsonl", "--system"]) == 2
    error = "error: option '--system' requires an argument\nhint: chatfmt convert --help-all\n"
    assert capsys.readouterr().err == error


def test_times_with_and_without_a_zone_have_no_order_and_the_error_says_why(tmp_path: Path) -> None:
    rows = [
        {"c": 1, "role": "user", "content": "a", "t": time} for time in ("2026-01-05T09:00:00Z", "2026-01-05T09:05")
    ]
    write_rows(tmp_path / "g.jsonl", rows)
    done = run_cli("convert", "g.jsonl", "--group-by", "c", "--order-by", "t", cwd=tmp_path)
    assert done.stderr.decode().splitlines()[0].endswith("have no order: one has a time zone, the other has none")


TWICE = {
    "--map user=a --map user=b": "`--map` gives `user` two values, `a` and `b`",
    "--rename id=a --rename id=b": "`--rename` gives `id` two values, `a` and `b`",
    "--role bot=user --role bot=tool": "`--role` gives `bot` two values, `user` and `tool`",
    "--marker Ann:=user --marker Ann:=assistant": "`--marker` gives `Ann:` two values, `user` and `assistant`",
    "--var a=1 --var a=2": "`--var` gives `a` two values, `1` and `2`",
    "--transform parts=keep --transform parts=flatten": "`--transform` gives `parts` two values, `keep` and `flatten`",
    "--dialect-option ties=drop --dialect-option ties=keep":
        "`--dialect-option` gives `ties` two values, `drop` and `keep`",
    "--weight data.jsonl=1 --weight data.jsonl=2": "`--weight` gives `data.jsonl` two values, `1` and `2`",
    "--label good --map label=bad": "`--label` and `--map label=bad` say two things",
    "--system A --transform system=B": "`--system` and `--transform system=B` say two things",
}  # fmt: skip


@pytest.mark.parametrize("flags", TWICE)
def test_a_name_with_two_values(flags: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [TALK])
    done = run_cli("convert", "data.jsonl", *flags.split(), "-o", "out.jsonl", cwd=tmp_path)
    assert done.stderr.decode() == f"error: {TWICE[flags]}\nhint: leave one of them out\n"
    assert done.returncode == 2 and [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_a_second_template(tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [TALK])
    done = run_cli("convert", tmp_path / "data.jsonl", "-t", "chatml", "-t", "qwen3")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: 2 templates need 2 places to write to\nhint: -o 'out/{template}/'\n"
    assert run_cli("convert", tmp_path / "data.jsonl", "-t", "chatml", "-t", "chatml").returncode == 0


def test_a_shard_size_below_what_can_be_cut(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text((json.dumps(TALK) + "\n") * 100)
    done = run_cli("convert", tmp_path / "data.jsonl", "--shard-size", "100B", "-o", tmp_path / "out")
    assert done.stderr.decode() == (
        f"error: `--shard-size 100` is smaller than the pieces in which `{tmp_path}/data.jsonl` can be read, "
        "of about 8,800 bytes\nhint: --rows-per-shard cuts at any row\n"
    )
    assert done.returncode == 2
    assert run_cli("convert", tmp_path / "data.jsonl", "--shard-size", "1MB", "-o", tmp_path / "out").returncode == 0


def test_a_bad_row_of_the_sample_hides_no_role(tmp_path: Path) -> None:
    bad = {"messages": [{"role": "user", "content": 1}]}
    (tmp_path / "data.jsonl").write_text(f"{json.dumps(TALK)}\n{json.dumps(bad)}\n")
    done = run_cli("convert", "data.jsonl", "-t", "chatml", "--mask", "--train-roles", "tool", cwd=tmp_path)
    message = "no sampled row has a turn of the role `tool`, which `--train-roles` names"
    hint = "the roles are `user`, `assistant`"
    assert done.stderr.decode() == f"error: data.jsonl: {message}\nhint: {hint}\n"
