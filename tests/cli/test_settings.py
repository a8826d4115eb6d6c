"""Options from the environment and from the configuration file: which wins, what is shown, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from chatfmt.cli import main, options
from chatfmt.cli.settings import config_file

from ..conftest import ROOT, run_cli, said

EVERYDAY = str(ROOT / "tests" / "data" / "everyday.jsonl")


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of a recipe and the origins of those that are set."""
    assert main(["convert", *arguments, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    return plan["recipe"], plan["origins"]


def test_flags_win_over_the_environment_over_the_recipe_over_the_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, recipe = tmp_path / "config.yaml", tmp_path / "recipe.yaml"
    config.write_text("limit: 1\nskip: 1\nseed: 1\nworkers: 1\nkeep: [topic]\n")
    recipe.write_text(f"source: {EVERYDAY}\nlimit: 2\nskip: 2\nseed: 2\n")
    for name, value in {
        "CONFIG": str(config),
        "LIMIT": "3",
        "SKIP": "3",
        "FOR": "trl-sft",
        "VAR": "a=1\nb=x y",
    }.items():
        monkeypatch.setenv(f"CHATFMT_{name}", value)
    values, origins = planned(capsys, str(recipe), "--limit", "4")
    assert [values[key] for key in ("limit", "skip", "seed", "workers", "keep")] == [4, 3, 2, 1, ["topic"]]
    assert (values["for"], values["var"]) == ("trl-sft", {"a": 1, "b": "x y"})
    keys = ("limit", "skip", "seed", "workers", "for")
    assert [origins[key] for key in keys] == ["flag", "CHATFMT_SKIP", f"recipe {recipe}", str(config), "CHATFMT_FOR"]


def test_weights_of_sources(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CHATFMT_WEIGHT", f"{EVERYDAY}=2")
    assert planned(capsys, EVERYDAY)[0]["source"][0]["weight"] == 2.0


def test_every_option_has_a_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in options.FLAGS.values():
        monkeypatch.setenv("CHATFMT_" + flag.lstrip("-").replace("-", "_").upper(), "")
    assert planned(capsys, EVERYDAY)[1] == {"source": "argument", "dry_run": "flag", "json": "flag"}
    assert len(options.FLAGS) > 60
    for name, value in {"FIT": "yes", "QUIET": "true", "HEADER": "0"}.items():
        monkeypatch.setenv(f"CHATFMT_{name}", value)
    values, _ = planned(capsys, EVERYDAY)
    assert (values["fit"], values["quiet"], values["header"]) == (True, True, False)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("LIMIT", "x", "error: CHATFMT_LIMIT: `--limit` must be a whole number, not `x`\n"),
        ("LIMIT", "-1", "error: CHATFMT_LIMIT: `limit` must be 0 or more, not `-1`\n"),
        ("CONFIG", "bad.yaml", "error: bad.yaml: unknown key `limt`\nhint: did you mean `limit`?\n"),
        ("FIT", "maybe", "error: CHATFMT_FIT: must be true or false, not `maybe`\n"),
        ("CONFIG", "none.yaml", "error: `none.yaml` does not exist\nhint: CHATFMT_CONFIG names the configuration file; "
                                "unset it, or write the file\n"),
        ("CONFIG", "own.yaml", "error: `own.yaml` is the configuration file, which cannot have a source\nhint: a file "
                               "that names its source is a recipe: chatfmt convert FILE\n"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    name: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "own.yaml").write_text("source: x.jsonl\n")
    (tmp_path / "bad.yaml").write_text("limt: 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"CHATFMT_{name}", value)
    assert main(["convert", EVERYDAY, "-o", "out.jsonl"]) == 2
    assert capsys.readouterr().err == message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml", "own.yaml"]


def test_a_configuration_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "own.yaml").write_text("template: chatml\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHATFMT_CONFIG", "own.yaml")
    monkeypatch.setattr(Path, "read_bytes", refuse)  # to root every file is readable
    assert main(["convert", EVERYDAY, "-o", "out.jsonl"]) == 3
    assert capsys.readouterr().err == (
        "error: cannot open `own.yaml`: Permission denied\n"
        "hint: check who may read it with `ls -l`; it is the configuration file, and CHATFMT_CONFIG='' runs without it"
        "\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


def test_the_configuration_file_is_where_the_system_keeps_such_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATFMT_CONFIG", raising=False)
    monkeypatch.setattr("typer.get_app_dir", lambda name: str(tmp_path / name))
    assert config_file() == tmp_path / "chatfmt" / "config.yaml"
    monkeypatch.setenv("CHATFMT_CONFIG", "")
    assert config_file() is None


def test_a_misspelt_variable_is_noted(tmp_path: Path) -> None:
    names = {"CHATFMT_LIMT": "1", "CHATFMT_TEMPLAT": "chatml", "CHATFMT_SHARED": "x", "CHATFMT_OF_SOMEONE_ELSE": "1"}
    run = run_cli("convert", EVERYDAY, cwd=tmp_path, env={**os.environ, **names})
    assert [line for line in run.stderr.decode().splitlines() if line.startswith("note: the variable")] == [
        "note: the variable `CHATFMT_LIMT` sets no option: did you mean `CHATFMT_LIMIT`?",
        "note: the variable `CHATFMT_TEMPLAT` sets no option: did you mean `CHATFMT_TEMPLATE`?",
    ]
    quiet = run_cli("convert", EVERYDAY, "-q", cwd=tmp_path, env={**os.environ, **names})
    assert (quiet.returncode, quiet.stderr) == (0, b"")


def test_a_recipe_reports_all_its_problems(tmp_path):
    (tmp_path / "r.yaml").write_text("sorce: x\nengine: fast\nlimit: -1\n")
    run = run_cli("convert", tmp_path / "r.yaml")
    assert run.returncode == 2
    for problem in ("missing key `source`", "unknown key `sorce`", "`engine` must be", "`limit` must be"):
        assert problem in said(run)[0]
    assert said(run)[1] == "hint: did you mean `source`?"


def test_every_recipe_key_has_its_flag_and_every_flag_its_place():
    from chatfmt.cli import options
    from chatfmt.recipe import KEYS

    flags = {*options.CONVERSION, "on_error", "max_bad"}
    joined = {"system", "calculator", "final_answer", "socratic", "transform", "dialect_option", "label", "weight"}
    assert flags - joined | {"source", "about", "transforms", "dialect_options"} == set(KEYS)
