"""What rows that are left out cost: a run that leaves them out, against the same run without them.

    python tests/bench/refused_rows.py [--kind template …] [--share 0.5 …] [--template gemma] [--format jsonl]

For the kind `template`, the template (a name or a file) must refuse two user turns in a row. CPU seconds of whole runs,
the best of all repeats.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]


class Kind(NamedTuple):
    """How a good row becomes one that is left out, and the options under which it is."""

    spoil: Callable[[Row], Row | str]
    options: tuple[str, ...] = ()
    template: str = ""
    """The template, where it is not the one of the command."""
    pairs: bool = False
    """Whether rows are a prompt and a completion, and not messages."""


def with_turn(row: Row, turn: int, **changes: Any) -> Row:
    messages = [{**message, **(changes if at == turn else {})} for at, message in enumerate(row["messages"])]
    return {**row, "messages": messages}


def question_twice(row: Row) -> Row:
    return {"messages": [row["messages"][0], *row["messages"]]}


SKIP = ("--on-error", "skip", "--max-bad", "100%")
KINDS = {
    "template": Kind(question_twice, SKIP),
    "loss": Kind(lambda row: with_turn(row, 1, reasoning_content="Let me think."), SKIP),
    "role": Kind(lambda row: with_turn(row, 0, role="narrator"), SKIP),
    "content": Kind(lambda row: with_turn(row, 1, content=None), SKIP),
    "answer": Kind(lambda row: {**row, "completion": None}, (*SKIP, "--dialect", "prompt-completion"), pairs=True),
    "turns": Kind(lambda row: {"messages": "none"}, (*SKIP, "--dialect", "messages")),
    "check": Kind(lambda row: with_turn(row, 1, content=""), (*SKIP, "--fail-on", "msg.empty")),
    "control": Kind(lambda row: with_turn(row, 1, content="<eos>"), (*SKIP, "--control-tokens", "reject"), "gemma"),
    "untrained": Kind(lambda row: with_turn(row, 1, weight=0), (*SKIP, "--mask")),
    "unreadable": Kind(lambda row: json.dumps(row)[:-1], SKIP),
    "where": Kind(question_twice, ("--where", "messages|length == 2")),
    "dedup": Kind(lambda row: {"messages": [turn | {"content": "a"} for turn in row["messages"]]}, ("--dedup",)),
}


def good_row(chance: random.Random, *, pairs: bool) -> Row:
    def text(words: int) -> str:
        return " ".join(chance.choices(("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"), k=words))

    question, answer = text(20), text(60)
    if pairs:
        return {"prompt": question, "completion": answer}
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write_rows(path: Path, rows: list[Row | str]) -> Path:
    if path.suffix == ".parquet":
        from datasets import Dataset

        Dataset.from_list([dict(row) for row in rows if not isinstance(row, str)]).to_parquet(path)
    else:
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def cpu_seconds(source: Path, template: str, out: Path, options: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-P", "-m", "chatfmt", "convert", source, "-t", template, "-o", out, "--overwrite"]
    subprocess.run([*command, "--workers", "1", *options, "-q"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=["template"])
    parser.add_argument("--share", nargs="+", type=float, default=[0.1, 0.5])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--template", default="gemma")
    parser.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    for name in options.kind:
        for share in options.share:
            measure(name, share, options)


def measure(name: str, share: float, options: argparse.Namespace) -> None:
    kind, chance = KINDS[name], random.Random(2)  # most of the sampled rows are good
    rows = [(good_row(chance, pairs=kind.pairs), chance.random() < share) for _ in range(options.rows)]
    with tempfile.TemporaryDirectory() as folder:
        both = [
            write_rows(Path(folder, f"all.{options.format}"), [kind.spoil(row) if bad else row for row, bad in rows]),
            write_rows(Path(folder, f"good.{options.format}"), [row for row, bad in rows if not bad]),
        ]
        out, template = Path(folder, "out.jsonl"), kind.template or options.template
        runs = [[cpu_seconds(path, template, out, kind.options) for path in both] for _ in range(options.repeat)]
    skipped, without = (min(times) for times in zip(*runs, strict=True))
    print(f"{name}: {share:.0%} of {options.rows:,} rows left out: {skipped:.2f} s, without them {without:.2f} s, "
          f"{skipped / without:.2f}×", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
