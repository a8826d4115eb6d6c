"""Options that are numbers: the texts that are read as one, and the error for any other."""

from __future__ import annotations

import json

import pytest

from chatfmt.cli.values import NUMBERS, to_values
from chatfmt.errors import UsageError

from ..conftest import EVERYDAY, run_cli, succeed

WHOLE = {"5": 5, "-1": -1, "+2": 2, " 5 ": 5, "\n3": 3, "1_000": 1000, "01": 1, "-0": 0, "1.0": 1, "1_0.00": 10}
REAL = {"0.5": 0.5, ".5": 0.5, "1.": 1.0, " 0.5\t": 0.5, "0.3_0": 0.3, "01": 1.0, "1e-1": 0.1, "00": 0.0}
NEITHER = ["", " ", "x", "1 0", "٥", "５", "½", "1__0", "_1", "1_", "0x10", "3,0", "50%", "true", "None"]


@pytest.mark.parametrize(("text", "number"), WHOLE.items())
def test_whole_numbers(text, number):
    assert to_values({"limit": text, "seed": text}) == {"limit": number, "seed": number}


@pytest.mark.parametrize(("text", "number"), REAL.items())
def test_fractions(text, number):
    assert to_values({"fraction": text, "test_fraction": text}) == {"fraction": number, "test_fraction": number}


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("text", NEITHER)
def test_other_texts_are_not_numbers(key, text):
    with pytest.raises(UsageError, match="must be a (whole )?number, not") as caught:
        to_values({key: text})
    assert caught.value.message.startswith(f"`--{key.replace('_', '-')}` ")


@pytest.mark.parametrize("text", ["1e3", "1E1", "2.5", ".5", "1.", "nan", "inf", "9" * 5000])
def test_fractions_are_not_whole_numbers(text):
    with pytest.raises(UsageError, match="`--limit` must be a whole number, not"):
        to_values({"limit": text})


@pytest.mark.parametrize(("text", "rows"), [("2", 2), ("+2", 2), (" 1_0 ", 10), ("1.0", 1)])
def test_preview_rows(text, rows):
    shown = succeed(run_cli("preview", EVERYDAY, "--json", f"--rows={text}"))
    assert [json.loads(line)["row"] for line in shown.stdout.splitlines()] == list(range(rows))


@pytest.mark.parametrize("text", ["", "0", "-0", "-1", "two", "1e3", "٥", "9" * 30])
def test_preview_needs_a_number_of_rows(text):
    shown = run_cli("preview", EVERYDAY, f"--rows={text}")
    assert (shown.returncode, shown.stdout) == (2, b"")
    assert shown.stderr.decode().startswith("error: `--rows` must be a ")
