"""The dialect stage as a share of a whole conversion: messages, ShareGPT and flat columns, Parquet and JSON Lines.

    python tests/bench/dialect_stage.py [--rows 20000] [--template chatml] [--repeat 3] [--json]

The conversations are those of `shared/bench/make_smoltalk_like.py` (or of --data, a Parquet file with `messages`). The
conversion runs in one process and writes one JSON Lines file; the dialect stage is timed inside that very run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

import chatfmt
from chatfmt.dialects import DIALECTS
from chatfmt.recipe import Recipe

SHARED = Path(__file__).resolve().parents[3] / "shared"
NAMES = {"user": "human", "assistant": "gpt"}
Row = dict[str, Any]


def sharegpt(turns: list[Row]) -> Row:
    return {"conversations": [{"from": NAMES.get(t["role"], t["role"]), "value": t["content"]} for t in turns]}


def flat(turns: list[Row]) -> Row:
    said = {turn["role"]: turn["content"] for turn in reversed(turns)}
    return {"instruction": said.get("user", ""), "input": "", "output": said.get("assistant", "")}


FORMS: dict[str, Callable[[list[Row]], Row]] = {
    "messages": lambda turns: {"messages": turns}, "sharegpt": sharegpt, "alpaca": flat,
}  # fmt: skip


def made_data(folder: Path, rows: int) -> Path:
    """A Parquet file of smoltalk-like rows."""
    script = SHARED / "bench" / "make_smoltalk_like.py"
    command = [sys.executable, script, "--rows", str(rows), "--out", folder / "smoltalk"]
    subprocess.run(command, check=True, capture_output=True)
    return next(iter(sorted(folder.rglob("*.parquet"))))


def write_forms(data: Path, rows: int, folder: Path) -> dict[str, Path]:
    """The conversations of `data` in each form, as Parquet and as JSON Lines, by `dialect format`."""
    talks = pq.read_table(data, columns=["messages"]).slice(0, rows).column(0).to_pylist()
    paths = {}
    for name, form in FORMS.items():
        records = [form([{"role": t["role"], "content": t["content"]} for t in turns]) for turns in talks]
        pq.write_table(pa.Table.from_pylist(records), folder / f"{name}.parquet")
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
        paths |= {f"{name} {ending}": folder / f"{name}.{ending}" for ending in ("parquet", "jsonl")}
    return paths


class Clock:
    """Adds up the seconds that the conversions of one dialect take."""

    def __init__(self, convert: Callable[..., pa.RecordBatch]) -> None:
        self.convert, self.seconds, self.rows = convert, 0.0, 0

    def __call__(self, batch: pa.RecordBatch, columns: Any) -> pa.RecordBatch:
        start = time.perf_counter()
        made = self.convert(batch, columns)
        self.seconds += time.perf_counter() - start
        self.rows += len(batch)
        return made


def clocked(dialect: str) -> Clock:
    """The clock of a dialect, put in its place once: a process keeps what it made ready for a job."""
    plain = DIALECTS[dialect]
    if not isinstance(plain.convert, Clock):
        DIALECTS[dialect] = replace(plain, convert=Clock(plain.convert))
    clock = DIALECTS[dialect].convert
    assert isinstance(clock, Clock)
    return clock


def run(dialect: str, source: Path, template: str, out: Path) -> tuple[float, float, int]:
    """Seconds of the whole conversion, seconds of the dialect stage, and rows."""
    clock = clocked(dialect)
    clock.seconds, clock.rows = 0.0, 0
    recipe = Recipe(source=[str(source)], template=template, dialect=dialect, to="text")
    start = time.perf_counter()
    chatfmt.convert(recipe, out=out, executor="serial", overwrite=True)
    return time.perf_counter() - start, clock.seconds, clock.rows


def measure(paths: dict[str, Path], template: str, repeat: int, folder: Path) -> list[Row]:
    found = []
    for name, path in paths.items():
        dialect = name.split()[0]
        runs = [run(dialect, path, template, folder / "out.jsonl") for _ in range(repeat + 1)][1:]
        whole, stage = (statistics.median(times[place] for times in runs) for place in (0, 1))
        rows = runs[0][2]
        found.append({"form": name, "rows": rows, "whole_us_a_row": whole / rows * 1e6,
                      "dialect_us_a_row": stage / rows * 1e6, "share": stage / whole})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--template", default="chatml")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_forms(given.data or made_data(folder, given.rows), given.rows, folder)
        found = measure(paths, given.template, given.repeat, folder)
    if given.json:
        print(json.dumps({"schema": 1, "template": given.template, "results": found}))
        return
    print(f"{'form':20} {'rows':>7} {'whole µs/row':>13} {'dialect µs/row':>15} {'share':>7}")
    for row in found:
        print(f"{row['form']:20} {row['rows']:7} {row['whole_us_a_row']:13.2f} "
              f"{row['dialect_us_a_row']:15.2f} {row['share']:7.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
