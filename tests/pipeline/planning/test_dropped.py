"""`--drop` of a path: a value that it names is never written, and a path that is nowhere is refused or noted."""

import json

import pytest

from ...conftest import run_cli, write_rows

TURNS = [{"role": "user", "content": "q", "meta": {"a": 1, "b": 2}}, {"role": "assistant", "content": "a"}]
ROW = {"messages": TURNS, "id": 1, "secret": {"ssn": "123", "tags": [{"a": 1}]}}
WRITES_ONE = "--map NAME=secret.KEY --keep NAME writes one value of it"
IN_KEPT = "is inside the column `secret`, which --keep writes whole"
REFUSED = {
    "--keep secret --drop secret.ssn": (
        f"`--drop secret.ssn` {IN_KEPT}", f"leave out --keep secret; {WRITES_ONE}"
    ),
    "--keep all --drop secret.*": (
        f"`--drop secret.*` {IN_KEPT}", f"--drop secret leaves all of it behind; {WRITES_ONE}"
    ),
    "--drop secret.nope": (
        "no sampled row has `secret.nope`, which --drop names", "the keys there are `ssn`, `tags`"
    ),
    "--drop secret.tags[].b": ("no sampled row has `secret.tags[].b`, which --drop names", "the keys there are `a`"),
    "--drop secret.ssn.x": ("no sampled row has `secret.ssn.x`, which --drop names", ""),
    "--drop messages.meta.b": (
        "`--drop messages.meta.b` is inside the key `meta`, which is written whole with its turn",
        "--drop messages.meta leaves all of it behind",
    ),
    "--keep id --drop id": ("`id` is in both --keep and --drop", "leave it out of one of them"),
    "--keep messages.meta --drop messages.*": (
        "`--drop 'messages.*'` drops all keys, and `--keep messages.meta` exempts none",
        "drop the others by name, as in --drop messages.KEY",
    ),
    "--keep secret.tags --drop secret.*": (
        "`--drop 'secret.*'` drops all keys, and `--keep secret.tags` exempts none",
        "drop the others by name, as in --drop secret.KEY",
    ),
}  # fmt: skip


def convert(folder, flags):
    write_rows(folder / "in.jsonl", [ROW])
    return run_cli("convert", "in.jsonl", "-o", "out.jsonl", *flags.split(), cwd=folder)


@pytest.mark.parametrize("flags", REFUSED)
def test_a_path_that_cannot_be_dropped_is_refused(flags, tmp_path):
    message, hint = REFUSED[flags]
    run = convert(tmp_path, flags)
    assert run.stderr.decode() == f"error: in.jsonl: {message}\n" + (f"hint: {hint}\n" if hint else "")
    assert run.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_inspect_refuses_a_key_that_is_kept_and_dropped(tmp_path):
    write_rows(tmp_path / "in.jsonl", [ROW])
    run = run_cli("inspect", "in.jsonl", "--drop", "messages[].*", "--keep", "messages.meta", cwd=tmp_path)
    message = "`--drop 'messages.*'` drops all keys, and `--keep messages.meta` exempts none"
    assert run.stderr.decode() == f"error: {message}\nhint: drop the others by name, as in --drop messages.KEY\n"


@pytest.mark.parametrize("name", ["messages.nope", "nope.x"])
def test_a_path_that_is_nowhere_is_noted(name, tmp_path):
    run = convert(tmp_path, f"--drop {name}")
    assert f"note: no sampled row has a value in `{name}`, which --drop names\n" in run.stderr.decode()
    assert run.returncode == 0


@pytest.mark.parametrize(
    "flags", ["--drop secret.ssn", "--drop secret.*", "--drop messages.meta", "--drop messages[].meta", "--drop secret",
              "--drop messages.*", "--drop messages.meta.b -t chatml"],
)  # fmt: skip
def test_other_paths_are_dropped_without_a_word(flags, tmp_path):
    run = convert(tmp_path, flags)
    assert run.returncode == 0
    assert b"note" not in run.stderr
    text = (tmp_path / "out.jsonl").read_text()
    assert "123" not in text and ("meta" not in text or "secret" in flags)


def test_one_value_of_a_column_is_kept_as_the_hint_says(tmp_path):
    assert convert(tmp_path, "--map tags=secret.tags --keep tags --drop secret").returncode == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["tags"] == [{"a": 1}]
