"""The README's table of trainers, from the verdicts that the tests check."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from chatfmt.trainers import TRAINERS

COLUMNS = {
    "chat": ("chat", "system", "multi-turn"),
    "tools": ("tools", "text and calls"),
    "reasoning": ("reasoning",),
    "parts": ("parts",),
    "variables": ("variables",),
    "weights": ("weights",),
    "images": ("images",),
    "preference": ("preference", "rendered preference", "split preference", "unpaired preference"),
    "prompts": (
        "prompt-completion",
        "rendered answers",
        "problems",
        "verified messages",
        "verified prompts",
        "verified texts",
    ),
    "rendered": (
        "rendered text",
        "rendered ChatML",
        "rendered turns",
        "rendered segments",
        "segments with BOS",
        "tokens",
    ),
}
"""The columns, and the cases of each."""
MARKS = {
    "refused": "refused", "Error: ": "stops", "trained only by one": "labels", "same tokens": "✓",
    "same conversations": "✓",
}  # fmt: skip
"""How a verdict is shown, by the first words that are in it."""
READ = ("open-instruct", "nemo-rl")
"""Trainers on no package index, of which the tests repeat what their code does."""
NOTES = {
    "weights": "It reads no weights of answers, and would train those of 0: an error of the row.",
    "variables": "It passes no variables to the template.",
    "rendered": "With `-t MODEL` chatfmt renders the conversations itself, and all of them train as marked.",
    "text": "With `-t MODEL` chatfmt renders the conversations itself, and it trains on all of the text.",
    "tokens": "`-t MODEL --to tokens --tokenizer MODEL` writes labels, with every weight of 0 or 1.",
    "tools": "It reads no tools.",
    "JSON": "It reads Parquet files without the tools in them, which are JSON.",
    "results": "A row with text beside a call, or with two results in a row, which LLaMA-Factory would lose: "
    "`--transform parallel_calls=split` makes them pairs.",
    "joined": "It renders turn by turn, and would end each of two results in a row, which the template joins: "
    "`--transform parallel_calls=split` makes them pairs.",
    "think": "It trains on the empty `<think></think>` too that Qwen3's template prints before an answer.",
    "opening": "It does not train on the `<think>` before reasoning; with `-t MODEL` it does.",
    "last": "It renders turn by turn, and stops where the template renders the last answer otherwise, as Qwen3's does.",
}
"""What is said of the cells that are not ✓."""
UNWEIGHTED = {"weights": ("weights",)}
CELLS: dict[str, dict[str, tuple[str, ...]]] = {
    "axolotl": {"reasoning": ("opening",), "variables": ("variables", "rendered")},
    "trl-sft": {"weights": ("weights", "tokens")},
    "unsloth": {"reasoning": ("think",), "weights": ("weights", "tokens")},
    "llama-factory": {**UNWEIGHTED, "tools": ("results",), "variables": ("variables",)},
    "torchtune": {**UNWEIGHTED, "tools": ("tools", "text"), "variables": ("variables", "text")},
    "open-instruct": {**UNWEIGHTED, "reasoning": ("think",), "variables": ("variables",)},
    "verl": {**UNWEIGHTED, "tools": ("JSON",), "reasoning": ("last",), "variables": ("variables",)},
    "nemo-rl": {**UNWEIGHTED, "tools": ("joined",), "reasoning": ("think",), "variables": ("variables",)},
    "openrlhf": {
        "weights": ("weights", "rendered"),
        "tools": ("tools", "rendered"),
        "reasoning": ("think",),
        "variables": ("variables", "rendered"),
    },
    "mlx-lm": {"reasoning": ("think",), "variables": ("variables", "text")},
}
"""The notes of each trainer, by column: every cell that is not ✓ has one, and no other cell."""
FILE = Path(__file__).with_name("verdicts.json")


def load_table() -> str:
    """Return the table of the recorded verdicts."""
    return table(json.loads(FILE.read_text(encoding="utf-8")))


def table(verdicts: dict[str, dict[str, str]]) -> str:
    """Return the table, one row a trainer."""
    lines = [f"| `--for` | code | {' | '.join(COLUMNS)} |", f"|---|---|{':-:|' * len(COLUMNS)}"]
    numbers: dict[str, int] = {}
    for trainer, found in verdicts.items():
        cells = [noted(trainer, column, cell(found, names), numbers) for column, names in COLUMNS.items()]
        code = TRAINERS[trainer].source.split(":")[0] + (", read" if trainer in READ else "")
        lines.append(f"| `{trainer}` | {code} | {' | '.join(cells)} |")
    notes = [f"{number}. {NOTES[note]}" for note, number in numbers.items()]
    return "\n".join([*lines, "", *notes]) + "\n"


def noted(trainer: str, column: str, text: str, numbers: dict[str, int]) -> str:
    """Return a cell with the numbers of its notes, which are counted in the order of their first use."""
    notes = CELLS.get(trainer, {}).get(column, ())
    assert bool(notes) == (text not in ("", "✓")), f"{trainer}, {column}: {text} and its notes do not go together"
    found = [numbers.setdefault(note, len(numbers) + 1) for note in notes]
    return text + (f" <sup>{', '.join(map(str, found))}</sup>" if found else "")


def cell(verdicts: dict[str, str], names: Iterable[str]) -> str:
    """Return the signs for the cases of these names; empty if the trainer is not used for them."""
    return " ".join(dict.fromkeys(mark(verdicts[name]) for name in names if name in verdicts))


def mark(verdict: str) -> str:
    """Return the sign for a verdict."""
    return next((sign for words, sign in MARKS.items() if words in verdict), "differs")
