"""`--keep`: columns copied to the output, and notes on columns whose names the output needs."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt.errors import UsageError

from ..conftest import from_lines, run_cli, succeed, write_rows

ROWS = [
    {"instruction": "hi", "output": "yo", "text": "old", "label": 3, "id": 7, "tags": ["a", None]},
    {"instruction": "ho", "output": "ye", "text": "", "label": None, "id": 8},
]
TEXTS = [
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n",
    "<|im_start|>user\nho<|im_end|>\n<|im_start|>assistant\nye<|im_end|>\n",
]
NOTE = "`--keep all` leaves out `text`, since the output needs the names: keep them with --map source_text=text"
KEPT = [{"text": TEXTS[0], "label": 3, "id": 7, "tags": ["a", None]}, {"text": TEXTS[1], "label": None, "id": 8}]


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path / "in.jsonl", ROWS)


def test_all_reports_columns_that_it_cannot_keep(data):
    run = succeed(run_cli("convert", data, "-t", "chatml", "--keep", "all"))
    assert from_lines(run.stdout) == KEPT
    assert run.stderr.decode().splitlines() == [f"note: {NOTE}", f"wrote 2 rows to stdout, {len(run.stdout)} B"]


def test_stdin_reports_them_too(data):
    run = run_cli("convert", "-", "-t", "chatml", "--keep", "all", "--json", stdin=data.read_bytes())
    assert from_lines(run.stdout) == KEPT
    note, summary = run.stderr.decode().splitlines()
    assert note == f"note: {NOTE}"
    assert json.loads(summary)["notes"] == [NOTE]


def test_the_suggested_flags_keep_them(data):
    flags = ["--map", "source_text=text"]
    run = run_cli("convert", data, "-t", "chatml", "--keep", "all", *flags)
    assert run.stderr.decode().splitlines() == [f"wrote 2 rows to stdout, {len(run.stdout)} B"]
    assert from_lines(run.stdout) == [{**KEPT[0], "source_text": "old"}, {**KEPT[1], "source_text": ""}]


def test_into_parquet_too(data, tmp_path):
    out = tmp_path / "out.parquet"
    flags = ["--map", "source_text=text"]
    assert run_cli("convert", data, "-t", "chatml", "--keep", "all", *flags, "-o", out).returncode == 0
    assert pq.read_table(out).to_pylist() == [
        {**KEPT[0], "source_text": "old"}, {**KEPT[1], "tags": None, "source_text": ""},
    ]  # fmt: skip


def test_the_summary_and_inspect_report_them(data, tmp_path):
    run = run_cli("convert", data, "-t", "chatml", "--keep", "all", "--json", "-o", tmp_path / "out.jsonl")
    assert json.loads(run.stdout)["notes"] == [NOTE]
    recipe = chatfmt.Recipe(source=str(data), template="chatml", keep="all")
    assert list(chatfmt.convert(recipe, tmp_path / "out2.jsonl").notes) == [NOTE]


def test_a_taken_name_is_an_error_with_a_hint(data):
    run = run_cli("convert", data, "-t", "chatml", "--keep", "text")
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.decode().splitlines() == [
        f"error: {data}: the column `text` cannot be kept: the output needs the name",
        "hint: keep it under another name: --map source_text=text --keep source_text",
    ]
    run = run_cli("convert", data, "-t", "chatml", "--map", "source_text=text", "--keep", "source_text")
    assert from_lines(run.stdout) == [{"text": TEXTS[0], "source_text": "old"}, {"text": TEXTS[1], "source_text": ""}]


def test_only_the_names_of_the_view_are_taken(data):
    """ms-swift reads `messages` with `label`."""
    run = run_cli("convert", data, "--to", "messages", "--keep", "label", "--keep", "text", "-q")
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    assert from_lines(run.stdout)[0] == {"messages": turns, "label": 3, "text": "old"}


START = "<|im_start|>user\na "
MIDDLE = "|im_end|><|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
ADDED = {
    "assistant_spans": (["--mask"], f"{START}<{MIDDLE}", [[62, 74]]),
    "control_escapes": (
        ["--control-tokens", "escape"], f"{START}< {MIDDLE}", [["messages", 0, "content", 3, "<|im_end|>"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ADDED)
def test_columns_added_by_an_option_are_not_silently_overwritten(name, tmp_path):
    flags, text, made = ADDED[name]
    path = tmp_path / "in.jsonl"
    write_rows(path, [{"instruction": "a <|im_end|>", "output": "yo", name: "MINE", "id": 1}])
    expected = {"text": text, "id": 1, name: made}
    command = ["convert", path, "-t", "chatml", *flags]
    run = run_cli(*command, "--keep", "all")
    assert from_lines(run.stdout) == [expected]
    assert run.stderr.decode().splitlines()[0] == (
        f"note: `--keep all` leaves out `{name}`, since the output needs the names: keep them with "
        f"--map source_{name}={name}"
    )
    run = run_cli(*command, "--keep", "all", "--map", f"source_{name}={name}")
    assert from_lines(run.stdout) == [{**expected, f"source_{name}": "MINE"}]
    assert b"note:" not in run.stderr
    run = run_cli(*command, "--keep", name)
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.decode().splitlines() == [
        f"error: the column `{name}` cannot be kept: the output needs the name",
        f"hint: keep it under another name: --map source_{name}={name} --keep source_{name}",
    ]
    assert from_lines(run_cli("convert", path, "-t", "chatml", "--keep", "all").stdout)[0][name] == "MINE"


def test_a_note_names_every_column_that_is_left_out(tmp_path):
    path = tmp_path / "in.jsonl"
    write_rows(path, [{**ROWS[0], "assistant_spans": "x"}])
    run = run_cli("convert", path, "-t", "chatml", "--keep", "all", "--mask")
    assert run.stderr.decode().splitlines()[0] == (
        "note: `--keep all` leaves out `text`, `assistant_spans`, since the output needs the names: keep them with "
        "--map source_text=text --map source_assistant_spans=assistant_spans"
    )


def test_a_misspelt_field_is_not_read_as_a_column(data):
    with pytest.raises(UsageError) as caught:
        chatfmt.convert(chatfmt.Recipe(source=str(data), map={"promt": "instruction"}), None)
    assert (caught.value.message, caught.value.hint) == ("unknown field `promt`", "did you mean `prompt`?")
