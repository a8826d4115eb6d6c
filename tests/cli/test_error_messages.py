"""Errors and reports use the names that the user gave, and hints say what to type."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from chatfmt.cli import main
from chatfmt.cli.commands import lists

from ..conftest import EVERYDAY, run_cli, run_here

ROWS = "choose other rows with `--skip`, `--limit` or `--split`, or use `--allow-empty` if this is intended"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "e.jsonl").write_bytes(EVERYDAY.read_bytes())
    (tmp_path / "deep").mkdir()
    for name, inside in (("a.xlsx", "xl/workbook.xml"), ("b.zip", "a.jsonl")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inside, "x")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "code", "error", "hint"),
    [
        ("convert e.jsonl --limit 0", 3, "e.jsonl: no rows in `train[:0]`", ROWS),
        ("check e.jsonl --skip 12", 3, "e.jsonl: no rows in `train[12:]`", ROWS),
        ("convert e.jsonl -t chatlm", 2, "unknown template `chatlm`",
         "did you mean `chatml`? `chatfmt templates list` has the names; a path or a Hub model id has a `/`"),
        ("convert *.xlsx", 3, "a.xlsx: this is a spreadsheet", "name the file itself, or save it as CSV"),
        ("convert b.z*", 3, "b.zip: this is a zip archive (or a PyTorch file)", "name the file itself, or unpack it"),
        ("convert *.parquet", 3, "no file matches `*.parquet`",
         "`.` has `a.xlsx`, `b.zip`, `deep`, `e.jsonl`"),
        ("convert none/*.jsonl", 3, "no file matches `none/*.jsonl`", "the folder `none` does not exist"),
        ("verify none", 1, "none: there is no such folder", "name a folder that chatfmt wrote"),
        ("verify e.jsonl", 1, "e.jsonl: it is a file; only folders have a manifest",
         "name a folder that chatfmt wrote"),
        ("convert e.jsonl -o e.jsonl", 2, "the output `e.jsonl` is its own input", "choose another OUT"),
        ("convert e.jsonl -o none/x.jsonl", 5, "the folder `none` does not exist", "mkdir -p none"),
        ("report e.jsonl -o none/r.html", 5, "the folder `none` does not exist", "mkdir -p none"),
        ("convert e.jsonl -o out --report none/r.html", 5, "the folder `none` does not exist", "mkdir -p none"),
        ("convert e.jsonl --map messages.role=content --on-error skip --max-bad 100%", 1,
         "all 12 rows were rejected: 12 msg.role", "`chatfmt check` lists them"),
    ],
)  # fmt: skip
def test_errors(command, code, error, hint, folder):
    run = run_cli(*command.split(), cwd=folder)
    assert (run.returncode, run.stdout) == (code, b"")
    assert run.stderr.decode().splitlines() == [f"error: {error}", f"hint: {hint}"]


@pytest.mark.parametrize("source", ["deep/x.jsonl", "deep/in/x.jsonl", "deep/*.jsonl"])
def test_a_folder_that_may_not_be_read_is_named(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "deep")  # root may read all
    run = run_here("convert", source, cwd=folder)
    said = "`deep` may not be read: check who may with `ls -ld deep`"
    assert (run.returncode, run.stderr.decode().splitlines()[1]) == (3, f"hint: {said}")


@pytest.mark.parametrize("source", ["in.jsonl", "-"])
def test_the_first_bad_row_is_named_though_a_later_one_fails_in_an_earlier_stage(source: str, tmp_path: Path) -> None:
    ask = {"role": "user", "content": "q"}
    refused, unread = [{"role": "system", "content": "s"}, ask], [{"role": "user", "content": 3}]
    talks = [[ask], refused, [ask], refused, unread, [ask]]
    rows = "".join(json.dumps({"messages": talk}) + "\n" for talk in talks)
    (tmp_path / "in.jsonl").write_text(rows)
    run = run_cli("convert", source, "-t", "gemma", "-o", "out.jsonl", cwd=tmp_path, stdin=rows.encode())
    shown = "stdin" if source == "-" else source
    said = f"error: {shown} row 1: System role not supported (line 2)"
    assert (run.returncode, run.stderr.decode().splitlines()[0]) == (4, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_the_command_of_the_hint_accepts_the_bad_rows(folder):
    good = '{"messages": [{"role": "user", "content": "a"}]}\n'
    (folder / "in.jsonl").write_text(good + "[]\n[]\n" + good)
    kept, done = "they are in `x.rejects.jsonl`; ", " and keeps what is done"
    outputs = (("-", "", [], ""), ("x.jsonl", kept, ["--resume"], done), ("x", "", ["--resume"], done))
    for out, where, more, ends in outputs:
        command = ("convert", "in.jsonl", "--on-error", "skip", "-q", "-o", out)
        flags = ["--max-bad", "2", *more]
        assert run_cli(*command, cwd=folder).stderr.decode().splitlines() == [
            "error: 2 of 4 rows were rejected, but `--max-bad` allows 10%: 2 json.not_object",
            f"hint: {where}`chatfmt check` lists them; {' '.join(flags)} accepts them{ends}",
        ]
        assert run_cli(*command, *flags, cwd=folder).returncode == 0


@pytest.mark.parametrize("source", ["in.jsonl", "-"])
def test_a_stream_is_not_resumed(source: str, folder: Path) -> None:
    row = '{"messages": [{"role": "user", "content": "a"}]}\n'
    (folder / "in.jsonl").write_text(row)
    run = run_cli("convert", source, "--resume", cwd=folder, stdin=row.encode())
    assert (run.returncode, run.stdout, run.stderr.decode()) == (
        2, b"", "error: `--resume` needs an output that keeps finished shards, and a stream does not\nhint: -o out/\n"
    )  # fmt: skip


def test_a_share_of_bad_rows_is_rounded_up(folder):
    good = '{"messages": [{"role": "user", "content": "a"}]}\n'
    (folder / "in.jsonl").write_text(good + "[]\n")
    for limit, code in (("10%", 0), ("0%", 1), ("0", 1)):
        run = run_cli("convert", "in.jsonl", "--on-error", "skip", "--max-bad", limit, cwd=folder)
        assert run.returncode == code, limit


def test_a_file_is_called_as_it_was_named(folder):
    assert run_cli("convert", "e.jsonl", "-o", "x.jsonl", cwd=folder).returncode == 0
    (folder / "link.jsonl").symlink_to("x.jsonl")
    for name, shown in (("x.jsonl", "x.jsonl"), ("link.jsonl", folder / "x.jsonl")):
        run = run_cli("convert", "e.jsonl", "-o", name, cwd=folder)
        assert run.stderr.decode().splitlines()[0] == f"error: `{shown}` already exists"


@pytest.mark.parametrize(
    ("flags", "line", "shards"),
    [
        (["-o", "x.jsonl"], "reads 12 rows, writes `messages` to x.jsonl", ["x.jsonl"]),
        ([], "reads 12 rows, writes `messages` to stdout", ["stdout"]),
        (["-o", "x"], "reads 12 rows, writes `messages` to 1 shard: data/train-00000-of-00001.parquet",
         ["data/train-00000-of-00001.parquet"]),
    ],
)  # fmt: skip
def test_a_plan_names_the_file_that_is_written(flags, line, shards, folder):
    run = run_cli("convert", "e.jsonl", *flags, "--dry-run", cwd=folder)
    assert run.stdout.decode().splitlines()[-1] == line
    run = run_cli("convert", "e.jsonl", *flags, "--dry-run", "--json", cwd=folder)
    assert json.loads(run.stdout)["shards"] == shards


def test_parts_of_a_plan_report_the_names_that_were_given(folder):
    assert run_cli("plan", "e.jsonl", "-o", "out", cwd=folder).returncode == 0
    assert run_cli("run", "out", cwd=folder).stderr == b"part 1 of 1: 1 shard, 12 rows\n"
    assert run_cli("commit", "out", cwd=folder).stderr.decode().splitlines() == [
        "wrote 12 rows to `out`, 2.5 kB", "left behind: topic (text); --keep all carries it",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["recipes", "templates"])
def test_lists_show_names_in_full(kind):
    names = {row["name"] for row in json.loads(run_cli(kind, "list", "--json").stdout)}
    lines = run_cli(kind, "list").stdout.decode().splitlines()
    assert len(names) > 50 and names <= {word for line in lines for word in line.split()[:1]}


def test_a_variable_that_is_nested_too_deeply(folder: Path) -> None:
    run = run_cli("convert", EVERYDAY, "-t", "chatml", "--var", f"x={'[' * 5000}", "-o", "out.jsonl", cwd=folder)
    error = f"error: `{'[' * 40}…` is nested too deeply\nhint: write it with fewer levels\n"
    assert (run.returncode, run.stderr.decode()) == (2, error)


@pytest.mark.parametrize(
    "given", [("--where", b'topic == "\xff"'), ("-t", "chatml", "--var", 'x="\\ud800"'), ("--system", b"\xed\xa0\x80")]
)
def test_options_that_are_not_utf8(given: tuple[str | bytes, ...], folder: Path) -> None:
    run = run_cli("convert", EVERYDAY, *map(os.fsdecode, given), "-o", "out.jsonl", cwd=folder)
    error, hint = run.stderr.decode().splitlines()[-2:]
    assert (run.returncode, hint) == (2, "hint: write it in UTF-8")
    assert "an option is not UTF-8: `…" in error and "\\ud" in error
    assert not (folder / "out.jsonl").exists()


def test_a_file_that_python_cannot_load_is_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte code that a full disk has cut is an EOFError, which Typer takes for the end of a prompt."""

    def load(*given: object, **named: object) -> None:
        raise EOFError("marshal data too short")

    monkeypatch.setattr(lists, "print_list", load)
    assert main(["dialects"]) == 70
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "EOFError: marshal data too short",
        "error: this is a bug in chatfmt: please report the lines above",
    ]
