"""The README's table of trainers, from the verdicts that the tests check."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from chatfmt.trainers import TRAINERS

COLUMNS = {
    "chat": ("chat", "system", "multi-turn"),
    "tools": ("tools",),
    "reasoning": ("reasoning",),
    "parts": ("parts",),
    "variables": ("variables",),
    "preference": ("preference", "split preference", "unpaired preference"),
    "prompts": ("prompt-completion", "rendered answers", "problems"),
    "rendered": ("rendered text", "rendered ChatML", "rendered segments", "segments with BOS", "tokens"),
}
"""The columns, and the cases of each."""
MARKS = {"refused": "refused", "trained only by one": "labels", "same tokens": "✓", "same conversations": "✓"}
"""How a verdict is shown, by the first words that are in it."""
READ = ("open-instruct", "nemo-rl")
"""Trainers on no package index, of which the tests repeat what their code does."""
FILE = Path(__file__).with_name("verdicts.json")


def load_table() -> str:
    """Return the table of the recorded verdicts."""
    return table(json.loads(FILE.read_text(encoding="utf-8")))


def table(verdicts: dict[str, dict[str, str]]) -> str:
    """Return the table, one row a trainer."""
    lines = [f"| `--for` | code | {' | '.join(COLUMNS)} |", f"|---|---|{':-:|' * len(COLUMNS)}"]
    for trainer, found in verdicts.items():
        cells = [cell(found, names) for names in COLUMNS.values()]
        code = TRAINERS[trainer].source.split(":")[0] + (", read" if trainer in READ else "")
        lines.append(f"| `{trainer}` | {code} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(verdicts: dict[str, str], names: Iterable[str]) -> str:
    """Return the signs for the cases of these names; empty if the trainer is not used for them."""
    return " ".join(dict.fromkeys(mark(verdicts[name]) for name in names if name in verdicts))


def mark(verdict: str) -> str:
    """Return the sign for a verdict."""
    return next((sign for words, sign in MARKS.items() if words in verdict), "differs")
