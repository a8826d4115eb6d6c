"""How long rendering alone takes: plain Jinja against the traced engine, on columns that lie in memory.

    python tests/bench/render_stage.py DATA.parquet [--rows 20000] [--batch 1000] [--templates DIR] [--json]

DATA has a column `messages`; smoltalk-like data comes from `shared/bench/make_smoltalk_like.py`. Each engine renders
all batches `--repeat` times, in turns; the table gives the median. `cold` includes the traces, `warm` does not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chatfmt import schema
from chatfmt.render import ChatTemplate, JinjaRenderer, RenderOptions
from chatfmt.render.replay import TracedRenderer

NAMES = ("chatml", "llama-3.1", "qwen3", "gpt-oss")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def batches_of(path: Path, rows: int, batch: int) -> list[pa.ListArray]:
    """The messages columns of the first `rows` rows."""
    found: list[pa.ListArray] = []
    for part in pq.ParquetFile(path).iter_batches(batch, columns=["messages"]):
        found.append(part.column(0))
        if sum(map(len, found)) >= rows:
            break
    return found


def template_of(name: str, folder: Path | None) -> ChatTemplate:
    if folder:
        return ChatTemplate(name, (folder / f"{name}.jinja").read_text("utf-8"), TOKENS)
    return ChatTemplate.load(name)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(template: ChatTemplate, batches: list[pa.ListArray], repeat: int) -> dict[str, Any]:
    """Microseconds a row of each engine, their ratio, and the share of rows that replayed."""
    options = RenderOptions()
    plain, warm = JinjaRenderer(template, options), TracedRenderer(template, options, JinjaRenderer(template, options))
    rows, times = sum(map(len, batches)), {"jinja": [], "cold": [], "warm": []}  # type: ignore[var-annotated]
    for batch in batches:
        assert warm(batch).text.equals(plain(batch).text), "the engines differ"
    for _ in range(repeat):
        cold = TracedRenderer(template, options, JinjaRenderer(template, options))
        for name, renderer in (("jinja", plain), ("cold", cold), ("warm", warm)):
            times[name].append(seconds(lambda: [renderer(batch) for batch in batches]) / rows * 1e6)  # noqa: B023
    medians = {name: statistics.median(values) for name, values in times.items()}
    size = sum(warm(batch).text.nbytes for batch in batches)
    return {
        "template": template.name, "rows": rows, "megabytes": round(size / 1e6, 1),
        **{f"{name}_us": round(value, 2) for name, value in medians.items()},
        "ratio_cold": round(medians["jinja"] / medians["cold"], 1),
        "ratio": round(medians["jinja"] / medians["warm"], 1),
        "gigabytes_a_second": round(size / (medians["warm"] * rows) / 1e3, 2), "replayed": round(warm.stats.share, 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--templates", type=Path, help="a folder of .jinja files, instead of the built-in ones")
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    schema.without_pandas()
    batches = batches_of(given.data, given.rows, given.batch)
    found = [measure(template_of(name, given.templates), batches, given.repeat) for name in given.names.split(",")]
    if given.json:
        print(json.dumps(found, indent=1))
        return
    heads = (
        ("jinja µs", 10),
        ("cold µs", 9),
        ("warm µs", 9),
        ("cold ×", 8),
        ("warm ×", 8),
        ("GB/s", 7),
        ("replayed", 10),
    )
    print("template      " + "".join(name.rjust(width) for name, width in heads))
    for row in found:
        times = f"{row['jinja_us']:10.1f}{row['cold_us']:9.2f}{row['warm_us']:9.2f}"
        ratios = f"{row['ratio_cold']:8.1f}{row['ratio']:8.1f}{row['gigabytes_a_second']:7.2f}{row['replayed']:10.1%}"
        print(f"{row['template']:14}{times}{ratios}")


if __name__ == "__main__":
    main()
