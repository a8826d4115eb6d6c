"""What rows that the template refuses cost: a run that skips them, against the same run without them.

    python tests/bench/refused_rows.py [--rows 20000] [--template gemma] [--repeat 5]

The template (a name or a file) must refuse two user turns in a row. CPU seconds of whole runs, the best of all repeats.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHARES = (0.1, 0.5)


def conversation(chance: random.Random, *, refused: bool) -> dict[str, Any]:
    def text(words: int) -> str:
        return " ".join(chance.choices(("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"), k=words))

    question, answer = {"role": "user", "content": text(20)}, {"role": "assistant", "content": text(60)}
    return {"messages": [question, question, answer] if refused else [question, answer]}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def cpu_seconds(source: Path, template: str, out: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-P", "-m", "chatfmt", "convert", source, "-t", template, "-o", out, "--overwrite"]
    subprocess.run([*command, "--workers", "1", "--on-error", "skip", "--max-bad", "100%", "-q"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--template", default="gemma")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for share in SHARES:
            chance = random.Random(1)
            rows = [conversation(chance, refused=chance.random() < share) for _ in range(options.rows)]
            good = [row for row in rows if len(row["messages"]) == 2]
            both = write_rows(Path(folder, "both.jsonl"), rows), write_rows(Path(folder, "good.jsonl"), good)
            runs = [
                [cpu_seconds(path, options.template, Path(folder, "out.jsonl")) for path in both]
                for _ in range(options.repeat)
            ]
            skipped, without = (min(times) for times in zip(*runs, strict=True))
            print(f"{share:.0%} of {options.rows:,} rows refused: {skipped:.2f} s, without them {without:.2f} s, "
                  f"{skipped / without:.2f}×")  # fmt: skip


if __name__ == "__main__":
    main()
