"""Several templates in one command: all are planned first, and nothing is published unless all succeed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatfmt import ChatTemplate
from chatfmt.cli import main

from ..conftest import from_lines, write_rows

U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
BOTH = ["-t", "chatml", "-t", "llama-2"]
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"messages": [U, A]}, {"messages": [U, U, A]}]
    write_rows(Path("in.jsonl"), rows)


def convert(*flags: str, source: str = "in.jsonl") -> int:
    return main(["convert", source, *flags, "--executor", "serial"])


def paths() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file() and path.name != "lock")


def test_each_template_has_a_place_of_its_own(capsys: Output) -> None:
    skip = ["--on-error", "skip", "--max-bad", "50%", "--rejects", "{template}-bad.jsonl"]
    assert convert(*BOTH, "-o", "{template}.jsonl", *skip) == 0
    for name in ("chatml", "llama-2"):
        row = json.loads(Path(f"{name}.jsonl").read_text().splitlines()[0])
        assert row["text"] == ChatTemplate.load(name).render([U, A])
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith(("wrote", "rejected"))] == [
        "wrote 2 rows to `chatml.jsonl`, 189 B", "wrote 1 row to `llama-2.jsonl`, 38 B",
        "rejected: 1 of 2 rows (template.raised 1), in `llama-2-bad.jsonl`",
    ]  # fmt: skip
    assert paths() == ["chatml.jsonl", "in.jsonl", "llama-2-bad.jsonl", "llama-2.jsonl"]


def test_one_template_may_name_its_place_too() -> None:
    Path("r.yaml").write_text("source: in.jsonl\ntemplate: chatml\nout: '{template}.jsonl'\n")
    assert convert("-q", source="r.yaml") == 0
    assert convert("-t", "{user_message}:{assistant_message};", "-o", "x{template}.jsonl", "-q") == 0
    assert paths() == ["chatml.jsonl", "in.jsonl", "r.yaml", "xuser_message-assistant_message.jsonl"]


def test_nothing_is_published_if_one_of_them_fails(capsys: Output) -> None:
    assert convert(*BOTH, "-o", "out/{template}/") == 4
    assert capsys.readouterr().err.startswith("error: in.jsonl row 1: Conversation roles must alternate")
    assert [*Path().rglob("*")] == [Path("in.jsonl")]
    assert convert("-t", "chatml", "-t", "chatml2", "-o", "new/{template}/") == 2
    assert capsys.readouterr().err.startswith("error: unknown template `chatml2`\n")
    Path("used/llama-2").mkdir(parents=True)
    Path("used/llama-2/mine").touch()
    assert convert(*BOTH, "-o", "used/{template}/") == 5
    assert paths() == ["in.jsonl", "used/llama-2/mine"]


def test_a_dry_run_shows_every_plan(capsys: Output) -> None:
    assert convert(*BOTH, "-o", "{template}.jsonl", "--dry-run", "--json") == 0
    plans = from_lines(capsys.readouterr().out)
    assert [(plan["recipe"]["template"], plan["shards"]) for plan in plans] == [
        ("chatml", ["chatml.jsonl"]), ("llama-2", ["llama-2.jsonl"]),
    ]  # fmt: skip
    assert paths() == ["in.jsonl"]


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        ([], "2 templates need 2 places to write to", "-o 'out/{template}/'"),
        (["-o", "out"], "2 templates need 2 places to write to", "-o 'out/{template}/'"),
        (["-o", "{template}", "--rejects", "bad.jsonl", "--on-error", "skip"], "2 templates need 2 places to write to",
         "--rejects '{template}.jsonl'"),
        (["-o", "{template}", "-t", "./chatml.jinja"], "two templates would write to `chatml`",
         "convert with one after the other"),
    ],
)  # fmt: skip
def test_places_that_are_not_apart_are_refused(flags: list[str], message: str, hint: str, capsys: Output) -> None:
    assert convert(*BOTH, *flags) == 2
    assert capsys.readouterr().err == f"error: {message}\nhint: {hint}\n"
    assert paths() == ["in.jsonl"]


def test_stdin_is_read_once(capsys: Output) -> None:
    assert convert(*BOTH, "-o", "{template}", source="-") == 2
    assert capsys.readouterr().err == (
        "error: stdin can be read for one template only\nhint: save its rows to a file first\n"
    )
