"""What each trainer makes of each kind of data, compared with what chatfmt says is trained.

`python -m tests.trainers.verdicts` runs all of them and writes `verdicts.json`; then `python -m tests.test_docs` writes
the README's table from it.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from chatfmt.trainers import settings

from ..conftest import from_lines, run_cli
from . import cases, tiny
from .consumers import Result, Task, consume
from .table import FILE

TOKENS, CONVERSATIONS = "same tokens and labels", "same conversations"


def convert(*arguments: str | Path) -> list[dict[str, Any]]:
    """Return the rows that chatfmt prints; raises ValueError with its error."""
    run = run_cli("convert", *arguments, "-q")
    if run.returncode:
        raise ValueError(run.stderr.decode().splitlines()[0])
    return from_lines(run.stdout)


def expected(
    case: cases.Case, model: Path, tokenizer: Any, *, by_answer: bool = False, masked_text: bool = False
) -> list[Any]:
    """What chatfmt says is trained: for each row its sequences of token ids, and whether each is trained.

    With `by_answer` there is a row for each answer, and nothing else of it is trained. With `masked_text` the trainer
    finds the answers in a text by itself.
    """
    source = tiny.write_rows(list(map(flat, case.rows)), model.parent / "expected.jsonl")
    flags = ["--mask"] if case.view == "text" else []
    flags += ["--mask-last"] if by_answer and case.view == "text" else []
    flags += ["--transform", "split_turns=true"] if by_answer else []
    rows = convert(source, "-t", model, "--to", case.view, *flags)
    if case.rendered == "text" and not masked_text:
        return [[wholly(row["text"].rstrip("\n"), tokenizer)] for row in rows]
    return [EXPECTED[case.view](row, tokenizer) for row in rows]


def masked(row: dict[str, Any], tokenizer: Any) -> list[Any]:
    return [encode(row["text"], row["assistant_spans"], tokenizer)]


def paired(row: dict[str, Any], tokenizer: Any) -> list[Any]:
    return [completed(row["prompt"], row[name], tokenizer) for name in ("chosen", "rejected")]


def unpaired(row: dict[str, Any], tokenizer: Any) -> list[Any]:
    return [{**completed(row["prompt"], row["completion"], tokenizer), "label": row["label"]}]


def completion(row: dict[str, Any], tokenizer: Any) -> list[Any]:
    return [completed(row["prompt"], row["completion"], tokenizer)]


def prompt(row: dict[str, Any], tokenizer: Any) -> list[Any]:
    return [{**encode(row["prompt"], [], tokenizer), "trained": None}]


def wholly(text: str, tokenizer: Any) -> dict[str, Any]:
    """A text that is trained from the first token to the last: with one BOS, and up to one EOS."""
    return encode(text, [(0, len(text))], tokenizer)


EXPECTED = {
    "text": masked, "preference": paired, "unpaired-preference": unpaired, "prompt-completion": completion,
    "prompt": prompt,
}  # fmt: skip


def completed(first: str, last: str, tokenizer: Any) -> dict[str, Any]:
    return encode(first + last, [(len(first), len(first) + len(last))], tokenizer)


def encode(text: str, spans: Any, tokenizer: Any) -> dict[str, Any]:
    """The tokens of a text, each trained if it lies in a span."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    trained = [any(a <= start and end <= b for a, b in spans) for start, end in found["offset_mapping"]]
    return {"ids": found["input_ids"], "trained": trained}


PLANS: dict[str, tuple[str, tuple[str, ...]]] = {
    "trl-sft": ("trl", (*cases.SFT, "images", "prompt-completion", "rendered text", "rendered ChatML", "tokens")),
    "trl-dpo": ("trl", ("preference",)),
    "trl-kto": ("trl", ("split preference", "unpaired preference")),
    "trl-reward": ("trl", ("preference",)),
    "trl-grpo": ("trl", ("problems",)),
    "unsloth": (
        "unsloth",
        (*cases.SFT, "stop that is not EOS", "prompt-completion", "rendered text", "rendered ChatML", "tokens"),
    ),
    "axolotl": (
        "axolotl",
        (
            *cases.SFT,
            "stop that is not EOS",
            "null arguments",
            "rendered segments",
            "segments with BOS",
            "tokens",
            "rendered preference",
            "unpaired preference",
        ),
    ),
    "llama-factory": ("llama_factory", (*cases.SFT, "images", "preference", "unpaired preference")),
    "ms-swift": ("ms_swift", (*cases.SFT, "images", "preference", "unpaired preference")),
    "torchtune": ("torchtune", (*cases.SFT, "preference")),
    "open-instruct": ("open_instruct", (*cases.SFT, "preference", "verified messages")),
    "verl": ("verl", (*cases.SFT, "problems", "verified prompts")),
    "nemo-rl": ("nemo_rl", (*cases.SFT, "preference", "verified texts")),
    "openrlhf": ("openrlhf", (*cases.SFT, "rendered turns", "prompt-completion", "preference", "problems")),
    "mlx-lm": ("mlx_lm", (*cases.SFT, "rendered text")),
    "litgpt": ("litgpt", ("rendered answers", "rendered turns")),
}
"""For each `--for` the module of `consumers`, and the cases that the trainer could be used for."""


class Attempt(NamedTuple):
    """A case converted for a trainer: the task for its own code, or why chatfmt refuses it."""

    task: Task | None
    refusal: str
    wanted: list[Any]
    tokenizer: Any = None


def attempt(trainer: str, name: str, folder: Path) -> Attempt:
    """Convert a case for a trainer, below `folder`."""
    case = cases.CASES[name]
    model = tiny.model(case.template, folder)
    out = folder / f"{trainer}-{name.replace(' ', '-')}"
    source = tiny.write_rows(case.rows, out.with_suffix(".jsonl"))
    tiny.draw(case.rows, folder)
    template = ["-t", str(model)] if case.rendered else []
    flags = [flag.replace("MODEL", str(model)) for flag in case.flags]
    try:
        convert(source, "--for", trainer, *flags, *template, "-o", out)
    except ValueError as error:
        return Attempt(None, str(error).removeprefix("error: ").replace(f"{folder}/", ""), [])
    run = run_cli("loader", out, "--model", model)
    if run.returncode:
        return Attempt(None, run.stderr.decode().splitlines()[0].split(": ", 2)[2], [])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    own = settings(trainer, to="auto", rendered=bool(case.rendered)).get("transforms", {})
    wanted = expected(case, model, tokenizer, by_answer="split_turns" in own, masked_text=trainer == "unsloth")
    task = Task(trainer=trainer, folder=str(out), loader=run.stdout.decode(), model=str(model))
    return Attempt(task, "", wanted, tokenizer)


def verdicts(trainer: str, folder: Path) -> dict[str, str]:
    """Return a verdict for each case of a trainer."""
    module, names = PLANS[trainer]
    attempts = {name: attempt(trainer, name, folder) for name in names}
    tasks = [found.task for found in attempts.values() if found.task]
    results = iter(consume(module, tasks, folder) if tasks else [])
    return {
        name: compare(next(results), found, cases.CASES[name]) if found.task else f"refused: {found.refusal}"
        for name, found in attempts.items()
    }


def compare(result: Result, found: Attempt, case: cases.Case) -> str:
    """Say in a few words how what a trainer made differs from what chatfmt promised."""
    warnings = [text for text in result["warnings"] if not any(words in text for words in UNRELATED)]
    if result["error"] or warnings:
        return result["error"] or f"warns: {warnings[0]}"
    if len(result["rows"]) != len(found.wanted):
        return f"{len(result['rows'])} of {len(found.wanted)} rows"
    if isinstance(result["rows"][0], dict):
        pairs = zip(result["rows"], map(conversation, case.rows))
        return next((f"{got}, not {want}" for got, want in pairs if got != want), CONVERSATIONS)
    found_differences = {difference(*pair, found.tokenizer) for pair in zip(result["rows"], found.wanted)} - {""}
    return "; ".join(sorted(found_differences)) or TOKENS


LAST_BREAK = "same tokens and labels, but for the line break after the stop token"
UNRELATED = ("trl.experimental", "VRAM instability", "trust_remote_code", "Version checking", "num_proc must be")
"""What trainers warn of, whatever the data."""


def difference(got: list[Any], want: list[Any], tokenizer: Any) -> str:
    """Return how the sequences of a row differ, or an empty string."""
    note = ""
    ends = {tokenizer.decode(sequence["ids"][-1:]) for sequence in want}
    if ends == {"\n"} and [sequence["ids"] for sequence in got] == [sequence["ids"][:-1] for sequence in want]:
        got, note = [completed_as(*pair) for pair in zip(got, want)], LAST_BREAK
    if [sequence["ids"] for sequence in got] != [sequence["ids"] for sequence in want]:
        return "other tokens"
    if any(sequence["trained"] is None for sequence in got) or got == want:
        return note
    differing = {text for pair in zip(got, want) for text in runs(*pair, tokenizer)}
    if not "".join(differing).strip():
        return LAST_BREAK
    return f"same tokens; trained only by one: {', '.join(sorted(map(repr, differing)))}"


def completed_as(got: dict[str, Any], want: dict[str, Any]) -> dict[str, Any]:
    """A sequence with the last token that it lacks."""
    trained = got["trained"] and [*got["trained"], want["trained"][-1]]
    return {**got, "ids": want["ids"], "trained": trained}


def runs(got: dict[str, Any], want: dict[str, Any], tokenizer: Any) -> list[str]:
    """The pieces of text that are trained in one sequence and not in the other."""
    marks = [one != other for one, other in zip(got["trained"], want["trained"])]
    groups = itertools.groupby(zip(marks, got["ids"]), key=lambda pair: pair[0])
    return [tokenizer.decode([number for _, number in group]) for differs, group in groups if differs]


def conversation(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a case as a trainer should see it: whole conversations, calls as objects, reasoning in the text."""
    prompt = row.get("prompt", [])
    columns = {"completion": "messages"}
    answers = {key: row[key] for key in ("messages", "completion", "chosen", "rejected") if key in row}
    found = {columns.get(key, key): list(map(turn, [*prompt, *turns])) for key, turns in answers.items()}
    found |= {"images": len(row["images"])} if row.get("images") else {}
    return {**found, **{key: row[key] for key in ("label", "tools", "chat_template_kwargs") if key in row}}


def turn(message: dict[str, Any]) -> dict[str, Any]:
    """A turn without the ids that no trainer reads."""
    content = joined(message["content"])
    if reasoning := message.get("reasoning_content"):
        content = f"<think>\n{reasoning}\n</think>\n\n{content}"
    calls = {"calls": [call["function"] for call in message["tool_calls"]]} if "tool_calls" in message else {}
    trained = {"trained": bool(message["weight"])} if "weight" in message else {}
    return {"role": message["role"], "content": content, **calls, **trained}


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row with parts of text joined."""
    turns = {key: value for key, value in row.items() if key in TURNS}
    return {**row, **{key: [{**turn, "content": joined(turn["content"])} for turn in turns[key]] for key in turns}}


TURNS = ("messages", "prompt", "completion", "chosen", "rejected")


def joined(content: Any) -> Any:
    return "".join(part["text"] for part in content) if isinstance(content, list) else content


def main() -> None:
    """Write the verdicts of the trainers named on the command line, or of all."""
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for trainer in sys.argv[1:] or PLANS:
        with tempfile.TemporaryDirectory() as name:
            found[trainer] = verdicts(trainer, Path(name))
        print(trainer, json.dumps(found[trainer], indent=2))
    found = {trainer: found[trainer] for trainer in PLANS if trainer in found}
    FILE.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
