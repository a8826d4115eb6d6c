"""Help: the common options, or every option in full in sections; commands without arguments print it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from chatfmt.cli import options
from chatfmt.cli.app import EXAMPLES
from chatfmt.trainers import TRAINERS
from chatfmt.views import VIEWS

from ..conftest import run_cli, run_process


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_every_option_is_shown_in_full_under_the_heading_of_its_group(columns: int) -> None:
    text = run_cli("convert", "--help-all", env={"COLUMNS": str(columns)}).stdout.decode()
    assert "…" not in text.replace("SOURCE…", "") and "..." not in text
    places = [text.index(f"\n{title}:\n") for title in ("Arguments", "Input", "Columns", "Rows", "Template", "Output")]
    assert places == sorted(places)
    keys = [*options.CONVERSION, *options.RUN, *options.REPORT]
    flags = ["--for" if key == "trainer" else "--" + key.replace("_", "-") for key in keys]
    assert len(flags) > 40 and [flag for flag in flags if f"{flag} " not in text] == []
    assert {name for name in (*VIEWS, *TRAINERS) if name not in text} == set()  # none is broken at a hyphen
    assert "load_dataset(path, name)" in text and "FIELD='{{ a }} {{ b }}'" in text
    longest = max(map(len, text.splitlines()))
    assert longest > 100 if columns >= 120 else longest <= 80
    assert longest <= 120


def test_help_shows_the_common_options_their_defaults_and_examples() -> None:
    lines = run_cli("convert", "--help").stdout.decode().splitlines()
    flags = [re.search(r"--[a-z-]+", line) for line in lines if line.startswith("  -")]
    shown = [found[0] for found in flags if found]
    assert set(shown) == {*(options.FLAGS[key] for key in options.COMMON), "--help", "--help-all"}
    text = " ".join(" ".join(lines).split())
    assert "Stop at the first bad row, or reject and count bad rows. [default: stop]" in text
    assert lines[-4:] == ["Examples:", *(f"  {line}" for line in EXAMPLES["convert"])]
    assert len(lines) < 60
    own = run_cli("stats", "--help").stdout.decode()
    assert own.index("Options:\n  --by COLUMN") < own.index("  --name TEXT") < own.index("Other:\n  -h, --help")
    assert "--for TRAINER  The trainer; default: that of the conversion.\n" in run_cli("loader", "-h").stdout.decode()
    assert "--supports FEATURE  Only templates that" in run_cli("templates", "list", "-h").stdout.decode()
    assert "--var KEY=VALUE  Template variable, a JSON value.\n" in run_cli("templates", "probe", "-h").stdout.decode()
    narrow = run_cli("templates", "probe", "-h", env={"COLUMNS": "40"}).stdout.decode().splitlines()
    assert max(map(len, narrow)) <= 40


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_name_options_that_exist(line: str) -> None:
    command = re.sub(r"^.*\| (?=chatfmt)| [|>].*$", "", line).split()
    known = run_cli(command[1], "--help-all").stdout.decode()
    assert [
        word for word in command if word.startswith("-") and word != "-" and f"{word} " not in known.replace(",", " ")
    ] == []


def test_the_help_of_a_view_names_every_view() -> None:
    text = " ".join(run_cli("convert", "--help").stdout.decode().split())
    said = text[text.index("--to VIEW") :].split(" [default")[0]
    assert set(said.removeprefix("--to VIEW ").rstrip(". ").split(", ")) == {"auto", *VIEWS}


@pytest.mark.parametrize("command", [["convert"], ["check"], []])
def test_a_command_without_arguments_prints_its_help_and_fails(command: list[str]) -> None:
    run, asked = run_process(*command), run_cli(*command, "--help")
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.decode().rstrip() == asked.stdout.decode().rstrip()


def test_the_list_of_commands_has_whole_sentences() -> None:
    text = " ".join(run_cli("--help").stdout.decode().split())
    assert "Compare all checksums and counts of an output folder with its manifest; exit code 1 if any differ." in text
    usage = run_cli("templates", "diff", "--help").stdout.decode().splitlines()[0]
    assert usage == "Usage: chatfmt templates diff [OPTIONS] A B [SOURCE]"


def test_values_are_read_without_typers_validators() -> None:
    commands = [["templates", "list"], ["transforms"], ["verify", "none"], ["run", "none"], ["check", "none.jsonl"]]
    code = f"import sys\nfrom chatfmt.cli import main\nprint([*map(main, {commands})], 'pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[0, 0, 1, 5, 3] False"
