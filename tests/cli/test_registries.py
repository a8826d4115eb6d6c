"""One place for each addition: an entry or a file is all that help, lists and error hints need."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from chatfmt import recipe
from chatfmt.checks import CHECKS
from chatfmt.cli import main
from chatfmt.dialects import DIALECTS
from chatfmt.executors import EXECUTORS, Executor, serial
from chatfmt.render.template import builtin
from chatfmt.transforms import TRANSFORMS

from ..conftest import EVERYDAY, run_cli


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code of a command in this process, and its output in one line."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


def test_an_executor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setitem(EXECUTORS, "dummy", Executor(serial, "on a dummy"))
    code, text = printed(capsys, "convert", "--help-all")
    assert code == 0 and "serial|processes|ray|dummy" in text and "on a Ray cluster or on a dummy." in text
    code, text = printed(capsys, "convert", str(EVERYDAY), "--executor", "dumy", "-o", str(tmp_path / "a.jsonl"))
    assert code == 2 and "did you mean `dummy`?" in text
    code, text = printed(capsys, "convert", str(EVERYDAY), "--executor", "dummy", "-o", str(tmp_path / "b.jsonl"))
    assert code == 0 and "wrote 12 rows" in text


def test_a_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    about = "about: {title: Dummy, licence: MIT, summary: A dummy., splits: [train], commands: [x]}\n"
    (tmp_path / "dummy.yaml").write_text(f"{about}source: {EVERYDAY}\n")
    monkeypatch.setattr(recipe, "configs", lambda: tmp_path)
    monkeypatch.setattr(recipe, "names", recipe.names.__wrapped__)
    assert "dummy" in printed(capsys, "recipes", "list")[1]
    code, text = printed(capsys, "recipes", "show", "dumy")
    assert code == 2 and "did you mean `dummy`?" in text
    code, text = printed(capsys, "convert", "dummy", "-o", str(tmp_path / "out.jsonl"))
    assert code == 0 and "wrote 12 rows" in text


def test_a_template(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = files("chatfmt").joinpath("templates", "chatml.jinja").read_text(encoding="utf-8")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "dummy.jinja").write_text(text)
    monkeypatch.setattr(builtin, "files", lambda package: tmp_path)
    monkeypatch.setattr(builtin, "names", builtin.names.__wrapped__)
    monkeypatch.setattr(builtin, "aliases", dict)
    assert "dummy" in printed(capsys, "templates", "list")[1]
    assert printed(capsys, "templates", "show", "dummy")[1] == " ".join(text.split())
    code, said = printed(capsys, "convert", str(EVERYDAY), "-t", "dumy")
    assert code == 2 and "did you mean `dummy`?" in said


def test_options_of_one_run_are_not_those_of_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("convert", str(EVERYDAY), "-o", "-", "--to", "messages", "--executor", "serial", "-q")
    first, second = (printed(capsys, *command, *more)[1].count('{"messages":') for more in (("--limit", "2"), ()))
    assert (first, second) == (2, 12)


def test_lists_name_every_entry_and_recipes_take_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    for command, names in (("dialects", DIALECTS), ("transforms", TRANSFORMS), ("checks", CHECKS)):
        assert main([command]) == 0
        words = capsys.readouterr().out.split()
        assert names and [name for name in names if name not in words] == []
        assert main([command, "--json"]) == 0
        assert [next(iter(row.values())) for row in json.loads(capsys.readouterr().out)] == list(names)
    assert main(["recipes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(recipe.names()) and max(map(len, lines)) <= 80
    assert main(["recipes", "list", "--wide"]) == 0
    assert "see the card" in capsys.readouterr().out


def test_a_recipe_of_files_that_are_not_here(tmp_path: Path) -> None:
    run = run_cli("inspect", "telegram", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (3, [
        "error: the recipe `telegram` reads `result.json`, which is not here",
        "hint: name yours after the recipe: telegram FILE",
    ])  # fmt: skip
    (tmp_path / "result.json").write_text('{"messages": []}')
    assert b"result.json: " in run_cli("inspect", "telegram", cwd=tmp_path).stderr


def test_the_name_of_a_recipe_with_a_typo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["convert", "gsmk8"]) == 3
    assert capsys.readouterr().err.splitlines()[1] == "hint: did you mean the recipe `gsm8k`?"
