"""How long rendering alone takes: plain Jinja against the traced engine, on columns that lie in memory.

    python tests/bench/render_stage.py DATA.parquet [--rows 20000] [--batch 1000] [--odd 2000] [--json]

DATA has a column `messages`; smoltalk-like data comes from `shared/bench/make_smoltalk_like.py`. Each engine renders
all batches `--repeat` times, in turns; the table gives the median. `cold` includes the traces, `warm` does not.

The lines below are of conversations made here, of which hardly two have one shape, so that little can be replayed:
`cold ×` says what the attempt costs, in CPU time, of each batch the best of all repeats.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from chatfmt import json_columns
from chatfmt.executors import worker_main
from chatfmt.render import ChatTemplate, JinjaRenderer, RenderOptions
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.rendering import ConversationBatch

NAMES = ("chatml", "llama-3.1", "qwen3", "gpt-oss")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def batches_of(path: Path, rows: int, batch: int) -> list[ConversationBatch]:
    """The conversations of the first `rows` rows."""
    found: list[ConversationBatch] = []
    for part in pq.ParquetFile(path).iter_batches(batch, columns=["messages"]):
        found.append(ConversationBatch(part.column(0)))
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


def measure(template: ChatTemplate, batches: list[ConversationBatch], repeat: int) -> dict[str, Any]:
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


WORDS = (
    "run", "list", "file", "open", "result", "error", "search", "user", "order", "weather", "city", "flight", "price",
)  # fmt: skip


def words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS, k=count))


def step(chance: random.Random, number: int) -> list[dict[str, Any]]:
    """A tool call with arguments of some shape, its result, and now and then a word between."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: words(chance, 4),
        lambda: chance.randint(0, 999),
        lambda: True,
        lambda: [words(chance, 2)] * chance.randint(1, 3),
    )
    arguments = {name: chance.choice(kinds)() for name in chance.sample(WORDS, chance.randint(1, 4))}
    call = {
        "id": f"call{number:05}",
        "type": "function",
        "function": {"name": words(chance, 1), "arguments": arguments},
    }
    turns = [
        {"role": "assistant", "content": words(chance, chance.choice((0, 12))), "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": words(chance, 30)},
    ]
    said = [{"role": "assistant", "content": words(chance, 15)}, {"role": "user", "content": words(chance, 15)}]
    return turns + said * (chance.random() < 0.3)


def trajectory(chance: random.Random) -> list[dict[str, Any]]:
    asked = [{"role": "system", "content": words(chance, 40)}, {"role": "user", "content": words(chance, 20)}]
    steps = [turn for number in range(chance.randint(6, 20)) for turn in step(chance, number)]
    return [*asked, *steps, {"role": "assistant", "content": words(chance, 30)}]


def few_calls(chance: random.Random) -> list[dict[str, Any]]:
    """A short chat with a call or two, or none."""
    steps = [turn for number in range(chance.randint(0, 2)) for turn in step(chance, number)]
    return [{"role": "user", "content": words(chance, 20)}, *steps, {"role": "assistant", "content": words(chance, 30)}]


def say(chance: random.Random, role: str, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": words(chance, 20), **fields}


def any_roles(chance: random.Random) -> list[dict[str, Any]]:
    """A chat whose turns come in any order."""
    roles = chance.choices(("user", "assistant", "tool", "assistant"), k=chance.randint(12, 40))
    return [say(chance, role) for role in ("user", *roles)]


def exchanges(chance: random.Random, answer: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    return [turn for _ in range(chance.randint(4, 20)) for turn in (say(chance, "user"), answer())]


def reasoned(chance: random.Random) -> list[dict[str, Any]]:
    """A chat in which some answers have a reasoning."""

    def answer() -> dict[str, Any]:
        thought = {"reasoning_content": words(chance, 40)}
        return say(chance, "assistant", **thought if chance.random() < 0.5 else {})

    return exchanges(chance, answer)


def thinking(chance: random.Random) -> list[dict[str, Any]]:
    """A chat in which some answers have a reasoning in their content."""

    def answer() -> dict[str, Any]:
        thought = f"<think>{words(chance, 40)}</think>" if chance.random() < 0.5 else ""
        return {"role": "assistant", "content": thought + words(chance, 20)}

    return exchanges(chance, answer)


ODD: dict[str, Callable[[random.Random], list[dict[str, Any]]]] = {
    "agent": trajectory, "calls": few_calls, "roles": any_roles, "reasoned": reasoned, "think": thinking,
}  # fmt: skip
"""Rows of which hardly two have one shape."""


def odd_rows(kind: str, rows: int, batch: int) -> list[ConversationBatch]:
    """Conversations of a kind, with tools where they have calls."""
    chance = random.Random(7)
    tools = [{"type": "function", "function": {"name": name, "description": name, "parameters": {}}} for name in WORDS]
    chats = [ODD[kind](chance) for _ in range(rows)]
    parts = [json_columns.encode_conversations(chats[start : start + batch]) for start in range(0, rows, batch)]
    called = kind in ("agent", "calls")
    return [ConversationBatch(part, json_columns.json_array([tools] * len(part)) if called else None) for part in parts]


def best_of(times: list[list[float]]) -> float:
    """The CPU time of all batches, of each the best that was measured."""
    return sum(map(min, zip(*times, strict=True)))


def measure_odd(kind: str, template: ChatTemplate, batches: list[ConversationBatch], repeat: int) -> dict[str, Any]:
    """Microseconds a row of each engine, and their ratio, where no shape repeats."""
    options, times = RenderOptions(), {"jinja": [], "cold": []}  # type: ignore[var-annotated]
    for turn in range(repeat + 1):
        plain = JinjaRenderer(template, options)
        cold = TracedRenderer(template, options, JinjaRenderer(template, options))
        taken: dict[str, list[float]] = {"jinja": [], "cold": []}
        for number, chats in enumerate(batches):
            for name, renderer in sorted((("jinja", plain), ("cold", cold)), reverse=bool((turn + number) % 2)):
                start = time.process_time()
                renderer(chats, failures=[])
                taken[name].append(time.process_time() - start)
        for name in times if turn else ():
            times[name].append(taken[name])
    rows = sum(map(len, batches))
    medians = {name: best_of(values) / rows * 1e6 for name, values in times.items()}
    return {
        "template": f"{kind} {template.name}", "rows": rows, "replayed": round(cold.stats.share, 4),
        **{f"{name}_us": round(value, 2) for name, value in medians.items()},
        "ratio_cold": round(medians["jinja"] / medians["cold"], 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--templates", type=Path, help="a folder of .jinja files, instead of the built-in ones")
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--odd", type=int, default=2000, help="rows of each odd kind, 0 for none")
    parser.add_argument("--odd-batch", type=int, default=500)
    parser.add_argument("--kinds", default=",".join(ODD))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    worker_main.without_pandas()
    batches = batches_of(given.data, given.rows, given.batch)
    found = [measure(template_of(name, given.templates), batches, given.repeat) for name in given.names.split(",")]
    for kind in given.kinds.split(",") if given.odd else ():
        odd = odd_rows(kind, given.odd, given.odd_batch)
        found += [measure_odd(kind, ChatTemplate.load(name), odd, given.repeat) for name in NAMES]
    if given.json:
        print(json.dumps(found, indent=1))
        return
    heads = {"jinja µs": 10, "cold µs": 9, "warm µs": 9, "cold ×": 8, "warm ×": 8, "GB/s": 7, "replayed": 10}
    print("template         " + "".join(name.rjust(width) for name, width in heads.items()))
    for row in found:
        print(f"{row['template']:17}" + line(row))


def line(row: dict[str, Any]) -> str:
    if "warm_us" not in row:
        return (
            f"{row['jinja_us']:10.1f}{row['cold_us']:9.1f}{'':9}{row['ratio_cold']:8.2f}{'':15}{row['replayed']:10.1%}"
        )
    times = f"{row['jinja_us']:10.1f}{row['cold_us']:9.2f}{row['warm_us']:9.2f}"
    return times + f"{row['ratio_cold']:8.1f}{row['ratio']:8.1f}{row['gigabytes_a_second']:7.2f}{row['replayed']:10.1%}"


if __name__ == "__main__":
    main()
