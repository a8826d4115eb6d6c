"""Text that a chat template rendered, parsed back into messages: the delimiters go, every other character stays.

A format is a pattern for where turns begin, one for what ends them, and the names of its roles. Only text that begins
with a turn of the format (after its BOS token) is taken for one, so that a text about a format stays text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from msgspec import Struct

from ...errors import DialectError
from ...field_path import value_at
from ...schema import Turn
from ..dialect import Dialect
from ..kit.columns import MESSAGES, Columns, SourceRow, describe, find_side_parts
from ..kit.output import convert_rows
from ..kit.roles import to_role


class TextFormat(Struct, frozen=True):
    """A rendered form: `start` matches where a turn begins (group 1 is its role), `end` what closes one.

    With `preamble` a text before the first turn is what the system says.
    """

    start: re.Pattern[str]
    end: re.Pattern[str] | None = None
    bos: str = ""
    roles: Mapping[str, str] | None = None
    preamble: bool = False


def transcript(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    r"""Text with the marks of a chat template, as messages: ChatML, Llama 2 and 3, Gemma, Zephyr, Phi, Vicuna, …

    In:  `{"text": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    Exactly the delimiters are taken away: the marks, the line break that a format puts after a role, and the line
    breaks between turns. The formats are those of TEXT_FORMATS, the most specific first; the option `format` names one.
    Raises DialectError `msg.role`, and `msg.type` for a text in none of the formats.
    """
    return convert_rows(batch, columns, _transcript)


def _transcript(record: SourceRow, columns: Columns) -> dict[str, Any]:
    path = columns.path("text") or "text"
    text = value_at(record, path)
    if not isinstance(text, str):
        raise DialectError(
            f"column `{path}` is {describe(text)}, not text", code="col.null" if text is None else "col.type"
        )
    turns = parse_transcript(text, columns)
    if turns is None:
        raise DialectError(
            f"column `{path}` does not begin with a turn", hint="--dialect text leaves it as it is", code="msg.type"
        )
    return {"messages": turns}


def parse_transcript(text: str, columns: Columns) -> list[Turn] | None:
    """The messages in a rendered text, None if it is in none of the formats; raises DialectError `msg.role`."""
    wanted = columns.option("format", "auto", "auto", *PARSERS)
    names = PARSERS if wanted == "auto" else {wanted: PARSERS[wanted]}
    for read in names.values():
        turns = read(text)
        if turns:
            return [{**turn, "role": to_role(turn["role"], columns.roles)} for turn in turns]
    return None


def _cut(form: TextFormat, text: str) -> list[Turn] | None:
    """The turns of a text in one format; None if the text does not begin with one, or has an end before a start."""
    body = text.removeprefix(form.bos)
    found = list(form.start.finditer(body))
    before = body[: found[0].start()] if found else body
    if not found or (before.strip("\n") and (not form.preamble or len(found) < 2)):
        return None
    ends = [match.start() for match in found[1:]] + [len(body)]
    first = [{"role": "system", "content": before.removesuffix(" ")}] if before.strip("\n") else []
    return first + [
        {"role": _named(form, match.group(1)), "content": _inner(form, body[match.end() : end])}
        for match, end in zip(found, ends, strict=True)
    ]


def _named(form: TextFormat, role: str) -> str:
    return role if form.roles is None else form.roles.get(role.lower(), role)


def _inner(form: TextFormat, text: str) -> str:
    """The content of a turn: up to what closes it; where nothing does, without the line breaks before the next turn."""
    if form.end is None:
        return text
    end = form.end.search(text)
    return text if end is None else text[: end.start()]


def _llama2(text: str) -> list[Turn] | None:
    r"""`<s>[INST] <<SYS>>\n…\n<</SYS>>\n\n question [/INST] answer </s>` (Llama 2; Mistral without the system part)."""
    body = re.sub(r"^\s*<s>\s*", "", text)
    if not body.startswith("[INST]"):
        return None
    turns: list[Turn] = []
    for match in re.finditer(
        r"\[INST\] ?(.*?) ?\[/INST\] ?(.*?)(?=(?: ?</s>)?\s*(?:<s>)?\s*(?:\[INST\]|\Z))", body, re.DOTALL
    ):
        question, answer = match.groups()
        system = re.match(r"\s*<<SYS>>\n?(.*?)\n?<</SYS>>\n{0,2}", question, re.DOTALL)
        if system:
            turns.append({"role": "system", "content": system[1]})
            question = question[system.end() :]
        turns.append({"role": "user", "content": question})
        turns += [{"role": "assistant", "content": answer}] if answer else []
    return turns


_ALPACA = re.compile(r"(?:^|\n\n)### ?(Instruction|Input|Response) ?:[ \t]*\n?")


def _alpaca(text: str) -> list[Turn] | None:
    """Alpaca's prompt: a preamble, `### Instruction:`, `### Input:` and `### Response:`, the preamble left out."""
    found = list(_ALPACA.finditer(text))
    names = [match[1].lower() for match in found]
    if names not in (["instruction", "response"], ["instruction", "input", "response"]):
        return None
    ends = [match.start() for match in found[1:]] + [len(text)]
    bodies = [text[match.end() : end] for match, end in zip(found, ends, strict=True)]
    answer = bodies[-1]
    asked = "\n".join(bodies[:-1])
    return [{"role": "user", "content": asked}, *([{"role": "assistant", "content": answer}] if answer else [])]


_TURNS = {"human": "user", "user": "user", "assistant": "assistant", "ai": "assistant", "system": "system"}
_USR = {"usr": "user", "bot": "assistant", "sys": "system"}
TEXT_FORMATS: dict[str, TextFormat] = {
    "chatml": TextFormat(re.compile(r"<\|im_start\|>[ \t]*([\w-]+)[ \t]*\n?"), re.compile(r"<\|im_end\|>")),
    "llama-3": TextFormat(re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>(?:\n\n|\s)?"),
                      re.compile(r"<\|(?:eot|eom)_id\|>"), "<|begin_of_text|>"),
    "gemma": TextFormat(re.compile(r"<start_of_turn>[ \t]*(\w+)\n?"), re.compile(r"<end_of_turn>"), "<bos>",
                    {"model": "assistant"}),
    "phi": TextFormat(re.compile(r"<\|(system|user|assistant)\|>\n?(?=.*?<\|end\|>)", re.DOTALL),
                  re.compile(r"<\|end\|>"), "<s>"),
    "zephyr": TextFormat(re.compile(r"<\|(system|user|assistant)\|>\n"), re.compile(r"(?:</s>|<\|endoftext\|>)?\n?\Z")),
    "baize": TextFormat(re.compile(r"\[\|(Human|AI)\|\] ?"), re.compile(r"\n?\Z"), "", _TURNS),
    "usr-bot": TextFormat(re.compile(r"<(usr|bot|sys)>[ \t]?"), re.compile(r"(?:</(?:usr|bot|sys)>)?\n?\Z"), "", _USR),
    "guanaco": TextFormat(re.compile(r"### ?(Human|Assistant|System) ?:[ \t]?"), re.compile(r"\n?\Z"), "", _TURNS),
    "vicuna": TextFormat(re.compile(r"(?:(?<=\n)|(?<=</s>)|(?<= )|^)(USER|ASSISTANT|SYSTEM): ?"),
                     re.compile(r" ?(?:</s>)?\n?\Z"), "<s>", _TURNS, preamble=True),
    "hh": TextFormat(re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?"), None, "", _TURNS),
}  # fmt: skip
"""Formats whose turns all look alike; sources: the chat templates of those models and the cards of their data sets."""


def _reader(form: TextFormat) -> Callable[[str], list[Turn] | None]:
    return lambda text: _cut(form, text)


PARSERS: dict[str, Callable[[str], list[Turn] | None]] = {
    **{name: _reader(form) for name, form in TEXT_FORMATS.items()}, "llama-2": _llama2, "alpaca": _alpaca,
}  # fmt: skip


def find_transcript_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """The part of a record with a column of rendered text, `text` or one of those for conversations."""
    mapped = columns.path("text") or columns.path("messages")
    names = (mapped,) if mapped else ("text", *MESSAGES)
    for name in names:
        text = value_at(record, name)
        if isinstance(text, str) and _speaks(text, columns):
            return {
                "text": name,
                **{part: path for part, path in find_side_parts(record, columns).items() if part == "tools"},
            }
    return None


def _speaks(text: str, columns: Columns) -> bool:
    try:
        turns = parse_transcript(text, columns)
    except DialectError:
        return False
    return turns is not None and (len(turns) > 1 or turns[0]["role"] == "user")


HH = re.compile(r"\n\n(Human|Assistant):[ \t]?")


def hh(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    r"""Chosen and rejected dialogues written as one text (Anthropic's hh-rlhf).

    In:  `{"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: no"}`
    Out: `{"prompt": [{"role": "user", "content": "hi"}], "chosen": [{"role": "assistant", "content": "hello"}],
           "rejected": [{"role": "assistant", "content": "no"}]}`

    The text is cut at `\n\nHuman:` and `\n\nAssistant:` and one blank after them, nowhere else. The prompt is all turns
    that both sides begin with, the last turn of each side left to it. Raises DialectError `msg.type`.
    """
    return convert_rows(batch, columns, _hh)


def _hh(record: SourceRow, columns: Columns) -> dict[str, Any]:
    chosen, rejected = (_hh_turns(record, columns.path(part) or part) for part in ("chosen", "rejected"))
    most = min(len(chosen), len(rejected)) - 1
    shared = next((place for place in range(most) if chosen[place] != rejected[place]), most)
    return {"prompt": chosen[:shared] or None, "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _hh_turns(record: SourceRow, path: str) -> list[Turn]:
    turns = parse_hh(value_at(record, path))
    if turns is None:
        raise DialectError(f"column `{path}` does not begin with `\\n\\nHuman:`", code="msg.type")
    return turns


def parse_hh(text: Any) -> list[Turn] | None:
    """The turns of a dialogue in hh-rlhf's form, None if it is in another."""
    if not isinstance(text, str) or HH.match(text) is None:
        return None
    pieces = HH.split(text)
    return [
        {"role": _TURNS[name.lower()], "content": said} for name, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def find_hh_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """The parts of a record whose chosen and rejected texts are dialogues."""
    found = {part: columns.path(part) or part for part in ("chosen", "rejected")}
    return found if all(parse_hh(value_at(record, path)) for path in found.values()) else None


DIALECTS = {
    "hh": Dialect(
        hh,
        find_hh_parts,
        "chosen and rejected dialogues as plain text (hh-rlhf)",
        rank=130,
        parts=frozenset({"chosen", "rejected"}),
        type="preference",
    ),
    "transcript": Dialect(
        transcript,
        find_transcript_parts,
        "text rendered with a chat template",
        rank=480,
        parts=frozenset({"text", "messages"}),
    ),
}
