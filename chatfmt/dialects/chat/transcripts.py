"""Parse text rendered with a chat template back into messages: drop the delimiters, keep every other character.

A format has a pattern for the start of a turn, one for its end, and the names of its roles. Text must begin with a turn
of the format (after its BOS token), so that text about a format stays text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from ...errors import DialectError
from ...field_path import value_at
from ...schema import Turn
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, find_side_parts, json_type
from ..kit.names import MESSAGES
from ..kit.output import by_row
from ..kit.roles import to_role


class TextFormat(Struct, frozen=True):
    """A format of rendered text: `start` matches the start of a turn (group 1 is its role), `end` its end.

    With `preamble`, text before the first turn becomes a system turn.
    """

    start: re.Pattern[str]
    end: re.Pattern[str] | None = None
    bos: str = ""
    roles: Mapping[str, str] | None = None
    preamble: bool = False


@by_row
def transcript(record: SourceRow, columns: Columns) -> dict[str, Any]:
    r"""Text rendered with a chat template: ChatML, Llama 2 and 3, Gemma, Zephyr, Phi, Vicuna, …

    In:  `{"text": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    Only the delimiters are dropped: the special tokens, the line break that a format has after a role, and the line
    breaks between turns. The option `format` names one of TEXT_FORMATS; the default is the first that fits.
    Raises DialectError `msg.role`, and `msg.type` for text in none of the formats.
    """
    path = columns.path("text") or "text"
    text = value_at(record, path)
    if not isinstance(text, str):
        raise DialectError(
            f"column `{path}` is {json_type(text)}, not text", code="col.null" if text is None else "col.type"
        )
    turns = parse_transcript(text, columns)
    if turns is None:
        raise DialectError(
            f"column `{path}` does not begin with a turn", hint="--dialect text keeps it as it is", code="msg.type"
        )
    return {"messages": turns}


def parse_transcript(text: str, columns: Columns) -> list[Turn] | None:
    """Return the messages in rendered text, None if it is in none of the formats; raises DialectError `msg.role`."""
    wanted = columns.option("format", "auto", "auto", *PARSERS)
    parsers = PARSERS if wanted == "auto" else {wanted: PARSERS[wanted]}
    for parse in parsers.values():
        turns = parse(text)
        if turns:
            return [{**turn, "role": to_role(turn["role"], columns.roles)} for turn in turns]
    return None


def _split_turns(form: TextFormat, text: str) -> list[Turn] | None:
    """Return the turns of text in one format; None if it does not begin with a turn."""
    body = text.removeprefix(form.bos)
    found = list(form.start.finditer(body))
    before = body[: found[0].start()] if found else body
    if not found or (before.strip("\n") and (not form.preamble or len(found) < 2)):
        return None
    ends = [match.start() for match in found[1:]] + [len(body)]
    first = [{"role": "system", "content": _content(form, before)}] if before.strip("\n") else []
    return first + [
        {"role": _role(form, match.group(1)), "content": _content(form, body[match.end() : end])}
        for match, end in zip(found, ends, strict=True)
    ]


def _role(form: TextFormat, role: str) -> str:
    return role if form.roles is None else form.roles.get(role.lower(), role)


def _content(form: TextFormat, text: str) -> str:
    """Return the content of a turn: the text before its end."""
    if form.end is None:
        return text
    end = form.end.search(text)
    return text if end is None else text[: end.start()]


def _llama2(text: str) -> list[Turn] | None:
    r"""Parse `<s>[INST] <<SYS>>\n…\n<</SYS>>\n\n question [/INST] answer </s>` (Llama 2; Mistral has no system)."""
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
    """Parse Alpaca's prompt: a preamble (dropped), `### Instruction:`, `### Input:` and `### Response:`."""
    found = list(_ALPACA.finditer(text))
    names = [match[1].lower() for match in found]
    if names not in (["instruction", "response"], ["instruction", "input", "response"]):
        return None
    ends = [match.start() for match in found[1:]] + [len(text)]
    bodies = [text[match.end() : end] for match, end in zip(found, ends, strict=True)]
    answer = bodies[-1]
    question = "\n".join(bodies[:-1])
    return [{"role": "user", "content": question}, *([{"role": "assistant", "content": answer}] if answer else [])]


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
    "baize": TextFormat(re.compile(r"\[\|(Human|AI)\|\] ?"), re.compile(r"\n?\Z"), "", _TURNS, preamble=True),
    "moss": TextFormat(re.compile(r"(?:^|(?<=<eo[ham]>)|(?<=<eo[ham]>[ \n]))(?:\[|<\|)(Human|MOSS)(?:\]|\|>): ?"),
                   re.compile(r"<eo[ham]>\s?\Z"), "", {**_TURNS, "moss": "assistant"}),
    "usr-bot": TextFormat(re.compile(r"<(usr|bot|sys)>[ \t]?"), re.compile(r"(?:</(?:usr|bot|sys)>)?\n?\Z"), "", _USR),
    "guanaco": TextFormat(re.compile(r"### ?(Human|Assistant|System) ?:[ \t]?"), re.compile(r"\n?\Z"), "", _TURNS),
    "vicuna": TextFormat(re.compile(r"(?:(?<=\n)|(?<=</s>)|(?<= )|^)(USER|ASSISTANT|SYSTEM): ?"),
                     re.compile(r" ?(?:</s>)?\n?\Z"), "<s>", _TURNS, preamble=True),
    "hh": TextFormat(re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?"), None, "", _TURNS),
}  # fmt: skip
"""Formats whose turns have the same delimiters; sources: chat templates of the models and cards of the datasets."""


PARSERS: dict[str, Callable[[str], list[Turn] | None]] = {
    **{name: partial(_split_turns, form) for name, form in TEXT_FORMATS.items()}, "llama-2": _llama2, "alpaca": _alpaca,
}  # fmt: skip


def find_transcript_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the part of a row with rendered text in `text` or in a column for conversations."""
    mapped = columns.path("text") or columns.path("messages")
    names = (mapped,) if mapped else ("text", *MESSAGES)
    for name in names:
        text = value_at(record, name)
        if isinstance(text, str) and _is_transcript(text, columns):
            return {
                "text": name,
                **{part: path for part, path in find_side_parts(record, columns).items() if part == "tools"},
            }
    return None


def _is_transcript(text: str, columns: Columns) -> bool:
    try:
        turns = parse_transcript(text, columns)
    except DialectError:
        return False
    return turns is not None and (len(turns) > 1 or turns[0]["role"] == "user")


HH = re.compile(r"\n\n(Human|Assistant):[ \t]?")


@by_row
def hh(record: SourceRow, columns: Columns) -> dict[str, Any]:
    r"""Chosen and rejected dialogues, each as one text (Anthropic's hh-rlhf).

    In:  `{"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: no"}`
    Out: `{"prompt": [{"role": "user", "content": "hi"}], "chosen": [{"role": "assistant", "content": "hello"}],
           "rejected": [{"role": "assistant", "content": "no"}]}`

    The text is split at `\n\nHuman:` and `\n\nAssistant:`, each with one blank after it. The prompt is the turns that
    both sides begin with, except the last turn of a side. Raises DialectError `msg.type`.
    """
    chosen, rejected = (_hh_turns(record, columns.path(part) or part) for part in ("chosen", "rejected"))
    limit = min(len(chosen), len(rejected)) - 1
    shared = next((turn for turn in range(limit) if chosen[turn] != rejected[turn]), limit)
    return {"prompt": chosen[:shared] or None, "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _hh_turns(record: SourceRow, path: str) -> list[Turn]:
    turns = parse_hh(value_at(record, path))
    if turns is None:
        raise DialectError(f"column `{path}` does not begin with `\\n\\nHuman:`", code="msg.type")
    return turns


def parse_hh(text: Any) -> list[Turn] | None:
    """Return the turns of a dialogue in hh-rlhf's format, None if it has another format."""
    if not isinstance(text, str) or HH.match(text) is None:
        return None
    pieces = HH.split(text)
    return [
        {"role": _TURNS[name.lower()], "content": content}
        for name, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def find_hh_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose chosen and rejected texts are dialogues."""
    found = {part: columns.path(part) or part for part in ("chosen", "rejected")}
    return found if all(parse_hh(value_at(record, path)) for path in found.values()) else None


DIALECTS = {
    "hh": Dialect(hh, find_hh_parts, "chosen and rejected dialogues as plain text (hh-rlhf)", rank=130,
                  parts=frozenset({"chosen", "rejected"}), type="preference"),
    "transcript": Dialect(transcript, find_transcript_parts, "text rendered with a chat template", rank=480,
                          parts=frozenset({"text", "messages"})),
}  # fmt: skip
