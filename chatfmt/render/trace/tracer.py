"""Trace a chat template with one conversation into a program.

The template runs in `symbolic_sandbox` with a symbol in place of every text of the conversation. Its output becomes the
pieces of the program, each question about a text becomes a guard. A program is a hypothesis: `renderer` compares it
with Jinja before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from msgspec import Struct, field
from msgspec.structs import replace

from ..jinja.inputs import alias_reasoning, check_documents, check_tools, context, drop_nulls, plain_data
from ..types import UNDATED, Moment
from .program import Path, Piece, Program, Untraceable
from .symbolic_numbers import symbol_for
from .symbolic_sandbox import Compiled, compiled
from .symbols import POISON, POISONED_NUMBER, SplitParts, Symbol, Tape, TraceRefused, parts_of

FIXED = frozenset(("role", "type"))
"""Keys whose text is part of the shape: templates compare it, and few values occur."""


class Inputs(Struct, frozen=True):
    """The inputs of a render besides the template, as plain data, named as in `apply_chat_template`."""

    messages: Sequence[Mapping[str, Any]]
    tools: Any = None
    documents: Any = None
    add_generation_prompt: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    now: Moment = UNDATED


def trace(template: str, inputs: Inputs, *, deep: bool = False) -> Program | Untraceable:
    """Return the program of a template for conversations with the shape of `inputs.messages`, or why there is none.

    Where the template refuses them, it is a program of the message.

    Texts of messages (not their role) become symbols; with `deep`, so do texts and numbers in their lists and objects,
    such as tool calls. Tools, documents, variables, the date and the generation prompt are constants.
    """
    try:
        traced = compiled(template)
        tape, paths = Tape(), list[Path]()
        messages = [
            alias_reasoning(_with_symbols(plain_data(drop_nulls(message)), ("messages", place), tape, paths, deep))
            for place, message in enumerate(inputs.messages)
        ]
        program = _run(traced, {"messages": messages, **_constants(inputs)}, tape, paths)
        "".join(piece for piece in program.pieces if isinstance(piece, str)).encode()  # raises for a lone surrogate
        return program
    except TraceRefused as refusal:
        return Untraceable(refusal.reason, refusal.every_row)
    except RecursionError:
        return Untraceable("it nests too deeply")
    except Exception as error:  # Jinja raises it when it renders the row
        return Untraceable(f"it raises {type(error).__name__}")


REFUSALS: Mapping[str, type[jinja2.TemplateError]] = {
    kind.__name__: kind for kind in (jinja2.TemplateError, jinja2.UndefinedError)
}
"""The errors by which a template refuses a conversation: its own, and the use of what is not there."""


_OWN_NAMES = {
    f"{own.__module__}.{own.__name__} object": name
    for own, name in ((Symbol, "str object"), (SplitParts, "list object"))
}
"""What Jinja calls a symbol in a message, and what it calls the value that the symbol stands for."""


def _run(traced: Compiled, values: Mapping[str, Any], tape: Tape, paths: list[Path]) -> Program:
    try:
        return _program(*traced.run(values), tape, paths)
    except jinja2.TemplateError as error:
        if REFUSALS.get(type(error).__name__) is not type(error) or not isinstance(error.message, str):
            raise
        message = error.message
        if not isinstance(message, Symbol):
            for own, name in _OWN_NAMES.items():
                message = message.replace(own, name)
        return replace(_program([message], [], tape, paths), refusal=type(error).__name__)


def _constants(inputs: Inputs) -> dict[str, Any]:
    return {
        "tools": check_tools(inputs.tools),
        "documents": check_documents(inputs.documents),
        "add_generation_prompt": inputs.add_generation_prompt,
        **context(inputs.variables, inputs.now),
    }


def _with_symbols(value: Any, path: Path, tape: Tape, paths: list[Path], deep: bool) -> Any:
    """Return the value with a symbol for each text outside the shape; add their paths to `paths`."""
    if isinstance(value, dict):
        return {key: _child(value, key, path, tape, paths, deep) for key in value}
    if isinstance(value, list):
        return [_child(value, place, path, tape, paths, deep) for place in range(len(value))]
    paths.append(path)
    return symbol_for(path, value, tape)


def _child(parent: Any, key: Any, path: Path, tape: Tape, paths: list[Path], deep: bool) -> Any:
    value = parent[key]
    nested = len(path) > 2
    if is_slot(key, value, nested) or (deep and isinstance(value, (dict, list))):
        return _with_symbols(value, (*path, key), tape, paths, deep)
    return value


def is_slot(key: str | int, value: Any, nested: bool) -> bool:
    """Return whether a value under `key` of a message (or `nested` in one) may differ between rows of one shape."""
    if type(value) is str:
        return key not in FIXED
    return nested and type(value) in (int, float) and value == value


def _program(blocks: list[str], spans: list[tuple[int, str]], tape: Tape, paths: list[Path]) -> Program:
    pieces, starts = _pieces(blocks, {place for place, _ in spans})
    ranges: list[tuple[int, int]] | None = []
    for place, body in spans:
        found = _range(pieces, starts, place, body)
        ranges = None if ranges is None or found is None else [*ranges, found]
    for piece in pieces:
        _refuse_leaks(piece)
    _guard_addresses(pieces, tape)
    known = None if ranges is None else tuple(ranges)
    return Program(tuple(pieces), tuple(tape.guards.items()), known, tuple(paths))


def _pieces(blocks: list[str], cuts: set[int]) -> tuple[list[Piece], dict[int, int]]:
    """Return literals (merged, but split around each block in `cuts`) and expressions, and the start of each block."""
    pieces: list[Piece] = []
    starts: dict[int, int] = {}
    fresh = True
    for place, block in enumerate(blocks):
        fresh = fresh or place in cuts or place - 1 in cuts
        starts[place] = len(pieces)
        for part in parts_of(block):
            literal = not isinstance(part, Symbol)
            if literal and not fresh and pieces and isinstance(pieces[-1], str):
                pieces[-1] += part
            else:
                pieces.append(part if not isinstance(part, Symbol) else part._chatfmt_expression)
            fresh = False
    starts[len(blocks)] = len(pieces)
    return pieces, starts


def _range(pieces: list[Piece], starts: dict[int, int], place: int, body: str) -> tuple[int, int] | None:
    """Return the range of pieces of a generation block; None if the block is not printed next at top level."""
    start = starts[place]
    wanted = [part._chatfmt_expression if isinstance(part, Symbol) else part for part in parts_of(body)]
    found = pieces[start : start + len(wanted)]
    return (start, start + len(wanted)) if found == wanted else None


_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}>")
_OPEN, _CLOSE = re.compile(r" at 0x?[0-9a-f]*\Z"), re.compile(r"(x[0-9a-f]*|[0-9a-f]+)(>|\Z)")
_REWRITE = frozenset(("replace", "lower", "upper", "capitalize", "title", "titled", "swapcase", "casefold"))


def _guard_addresses(pieces: Sequence[Piece], tape: Tape) -> None:
    """Leave to Jinja what may look like a memory address when literal and text are joined.

    Jinja refuses a printed `<… at 0x…>` if no text of the conversation holds the number. So an expression that may
    print a part of such a number, or a changed number, is guarded not to hold `0x`.
    """
    for index, piece in enumerate(pieces):
        if isinstance(piece, str):
            continue
        before = pieces[index - 1] if index else ""
        behind = pieces[index + 1] if index + 1 < len(pieces) else "\n"
        between_literals = isinstance(before, str) and isinstance(behind, str) and not _is_made(piece)
        if _OPEN.search(str(before)):
            raise TraceRefused("it prints a memory address")
        if not between_literals or _CLOSE.match(str(behind)):
            tape.guards.setdefault(("has", piece, "0x"), False)


def _is_made(expression: Piece) -> bool:
    """Return whether an expression may print a number that none of its texts holds."""
    return not isinstance(expression, str) and (
        expression[0] == "cat" or expression[0] in _REWRITE or (expression[0] != "leaf" and _is_made(expression[1]))
    )


def _refuse_leaks(piece: Piece) -> None:
    if not isinstance(piece, str):
        return
    if POISON[:2] in piece or POISON[2:10] in piece or str(POISONED_NUMBER)[:12] in piece:
        raise TraceRefused("a text leaked past its symbol")
    if _ADDRESS.search(piece):
        raise TraceRefused("it prints a memory address")
