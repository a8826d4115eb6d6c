"""A chat template and one conversation become a program, or the reason why they do not.

The template runs in the sandbox of `environment`, with a symbol in place of every text of the conversation. What it
prints is the program's pieces, what it asks about a text becomes a guard. All operators, calls, filters, tests and
joins that could hand a symbol to C code, which would read the buffer behind it, are replaced by twins that know
symbols or refuse. A program is a claim, which `replay` checks against plain Jinja before it believes it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from .environment import (
    UNDATED,
    GenerationTag,
    Moment,
    TemplateDict,
    TemplateNamespace,
    alias_reasoning,
    check_documents,
    check_tools,
    context,
    drop_nulls,
    plain_data,
    raise_exception,
    sandbox,
)
from .program import Path, Piece, Program, Untraceable
from .symbols import (
    POISON,
    POISONED_NUMBER,
    SYMBOLIC,
    Character,
    Fraction,
    Length,
    Parts,
    Refused,
    Symbol,
    Tape,
    WholeNumber,
    join_with,
    joined_any,
    parts_of,
    symbol_for,
    symbolic,
)

FIXED = frozenset(("role", "type"))
"""Keys whose text is part of the shape: templates compare it, and it has few values."""


@dataclass(frozen=True)
class Inputs:
    """All that a render sees besides the template, as plain data, in the words of `apply_chat_template`."""

    messages: Sequence[Mapping[str, Any]]
    tools: Any = None
    documents: Any = None
    add_generation_prompt: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    now: Moment = UNDATED


def trace(template: str, inputs: Inputs, *, deep: bool = False) -> Program | Untraceable:
    """The program of a template for conversations with the shape of `inputs.messages`, or why there is none.

    Texts of messages (not their role) are symbols; with `deep` also texts and numbers in their lists and objects,
    such as tool calls. Tools, documents, variables, the date and the generation prompt are constants.
    """
    try:
        compiled = _compiled(template)
        tape, paths = Tape(), list[Path]()
        messages = [
            alias_reasoning(_with_symbols(plain_data(drop_nulls(message)), ("messages", place), tape, paths, deep))
            for place, message in enumerate(inputs.messages)
        ]
        blocks, spans = compiled.run({"messages": messages, **_constants(inputs)})
        return _program(blocks, spans, tape, paths)
    except Refused as refusal:
        return Untraceable(refusal.reason, refusal.whole)
    except RecursionError:
        return Untraceable("it nests too deeply")
    except Exception as error:  # whatever a template raises, plain Jinja shall raise it
        return Untraceable(f"it raises {type(error).__name__}")


def _constants(inputs: Inputs) -> dict[str, Any]:
    return {
        "tools": check_tools(inputs.tools),
        "documents": check_documents(inputs.documents),
        "add_generation_prompt": inputs.add_generation_prompt,
        **context(inputs.variables, inputs.now),
    }


def _with_symbols(value: Any, path: Path, tape: Tape, paths: list[Path], deep: bool) -> Any:
    """The value with a symbol for each text that is not part of the shape; their paths are added to `paths`."""
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
    """Whether a value under `key` of a message (or `nested` in one) is a slot of the shape and not part of it."""
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
    """Literals (merged, but cut before and after each block in `cuts`) and expressions; where each cut block starts."""
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
    """Where the body of a generation block stands in the pieces, if it is what was printed next at top level."""
    start = starts[place]
    wanted = [part._chatfmt_expression if isinstance(part, Symbol) else part for part in parts_of(body)]
    found = pieces[start : start + len(wanted)]
    return (start, start + len(wanted)) if found == wanted else None


_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}>")
_OPEN, _CLOSE = re.compile(r"<[^<>\n]*$"), re.compile(r"[^<>\n]*>")


def _guard_addresses(pieces: Sequence[Piece], tape: Tape) -> None:
    """Leave to Jinja what looks like an object's memory address once literal and text stand side by side.

    Plain Jinja refuses a printed `<… at 0x…>` that no text of the conversation holds, so a text that may be the middle
    or the end of one must not have `0x` in it.
    """
    for place, piece in enumerate(pieces):
        if isinstance(piece, str):
            continue
        before = pieces[place - 1] if place else "\n"
        behind = pieces[place + 1] if place + 1 < len(pieces) else "\n"
        apart = isinstance(before, str) and isinstance(behind, str) and not _has_literal(piece)
        if not apart or _OPEN.search(str(before)) or _CLOSE.match(str(behind)):
            tape.guards.setdefault(("has", piece, "0x"), False)


def _has_literal(expression: Piece) -> bool:
    return not isinstance(expression, str) and (
        expression[0] == "cat" or (expression[0] != "leaf" and _has_literal(expression[1]))
    )


def _refuse_leaks(piece: Piece) -> None:
    if not isinstance(piece, str):
        return
    if POISON[:2] in piece or POISON[2:10] in piece or str(POISONED_NUMBER)[:12] in piece:
        raise Refused("a text leaked past its symbol")
    if _ADDRESS.search(piece):
        raise Refused("it prints a memory address")


class _InAsTest(NodeTransformer):
    """Turns `a in b` into the test `a is in(b)`, which knows symbols."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        kinds = [operand.op for operand in node.ops]
        if not {"in", "notin"} & set(kinds):
            return node
        if len(kinds) > 1:
            raise Refused("`in` inside a chained comparison", whole=True)
        test = nodes.Test(node.expr, "in", [node.ops[0].expr], [], None, None).set_lineno(node.lineno)
        test.set_environment(node.environment)
        if kinds == ["in"]:
            return test
        negated = nodes.Not(test).set_lineno(node.lineno)
        return negated.set_environment(node.environment)


class _SilentLoops(NodeTransformer):
    """Lets loops run over a text if they print nothing for a character, as templates for parts of content do.

    Only for loops that cannot tell one character from another and leave nothing behind: no `loop`, no `else`, no
    condition, no calls, no assignment to a namespace. Such a loop is run for one `Character`, and must print nothing.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if node.test or node.else_ or node.recursive or not isinstance(node.target, nodes.Name):
            return node
        if next((found for part in node.body for found in _within(part) if _tells(found)), None):
            return node
        node.iter = _filter(node.iter, "chatfmt characters", node)
        block = nodes.FilterBlock([node], _filter(None, "chatfmt silent", node))
        return block.set_lineno(node.lineno).set_environment(node.environment)


def _within(node: nodes.Node) -> Iterable[nodes.Node]:
    return [node, *node.find_all(nodes.Node)]


def _tells(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Name):
        return node.name == "loop"
    return isinstance(node, (nodes.Call, nodes.CallBlock, nodes.NSRef, nodes.Break, nodes.Continue, nodes.Macro))


def _filter(subject: Any, name: str, node: nodes.Node) -> nodes.Filter:
    found = nodes.Filter(subject, name, [], [], None, None).set_lineno(node.lineno)
    return found.set_environment(node.environment)  # type: ignore[no-any-return]


class _Loops:
    """The loops under way that `_SilentLoops` watches, and which of them run over a text."""

    def __init__(self) -> None:
        self.over_text: list[bool] = []

    def characters(self, value: Any) -> Any:
        text = isinstance(value, Symbol)
        self.over_text.append(text)
        return ([Character(value._chatfmt_tape)] if value else []) if text else value

    def silent(self, printed: str) -> str:
        if self.over_text.pop() and parts_of(printed):
            raise Refused("a loop over the characters of a text")
        return printed


class SymbolicSandbox(ImmutableSandboxedEnvironment):
    """The sandbox in which symbols are safe."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))
    intercepted_unops = frozenset(("+", "-"))
    concat = staticmethod(lambda texts: joined_any(list(texts)))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        if next(tree.find_all((nodes.EvalContextModifier, nodes.Include, nodes.Import, nodes.FromImport)), None):
            raise Refused("`autoescape`, `include` or `import`", whole=True)
        return _SilentLoops().visit(_InAsTest().visit(tree))  # type: ignore[no-any-return]

    def getitem(self, obj: Any, argument: Any) -> Any:
        if symbolic(argument):
            raise Refused("a text or number is used as a key")
        if isinstance(obj, Character):
            return self.getattr(obj, str(argument))
        return super().getitem(obj, argument)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, SYMBOLIC) and not isinstance(obj, Symbol) and not attribute.startswith("_"):
            raise Refused(f"`{attribute}` of a number or of the parts of a text")
        if isinstance(obj, Character):
            if hasattr(str, attribute):
                raise Refused(f"`{attribute}` of a character")
            return self.undefined(obj="", name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not symbolic(left) and not symbolic(right):
            return super().call_binop(context, operator, left, right)
        if operator == "+" and (isinstance(left, (Symbol, Length)) or isinstance(right, (Symbol, Length))):
            return left + right
        if operator == "+" and type(left) is list and type(right) is list:
            return left + right
        if operator == "-" and isinstance(left, (int, Length)) and isinstance(right, (int, Length)):
            return left - right
        raise Refused(f"`{operator}` with a text or number")

    def call_unop(self, context: Any, operator: str, arg: Any) -> Any:
        if symbolic(arg):
            raise Refused(f"`{operator}` before a text or number")
        return super().call_unop(context, operator, arg)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if __obj is _LIPSUM:
            raise Refused("it prints random text", whole=True)
        named = {name: value for name, value in kwargs.items() if name not in _FOR_CONTEXT}
        if symbolic(args) or symbolic(named):
            owner = getattr(__obj, "__self__", None)
            if type(owner) is str and getattr(__obj, "__name__", "") == "join" and len(args) == 1 and not named:
                return join_with(owner, map(_checked_text, args[0]))
            if not _takes_symbols(__obj, owner):
                raise Refused(f"a text is given to `{getattr(__obj, '__name__', type(__obj).__name__)}`")
        return super().call(__context, __obj, *args, **kwargs)


_FOR_CONTEXT = ("_loop_vars", "_block_vars")
"""What compiled templates hand to `Context.call`, which takes them out again."""
_LIPSUM = jinja2.defaults.DEFAULT_NAMESPACE["lipsum"]
_DICT_METHODS = frozenset(("get", "items", "keys", "values", "copy", "fromkeys"))


def _takes_symbols(function: Any, owner: Any) -> bool:
    """Whether a function is Python code, or C code that only stores or compares what it is given."""
    if isinstance(function, (Macro, LoopContext, TemplateDict)) or function in (TemplateNamespace, raise_exception):
        return True
    if isinstance(owner, (Symbol, LoopContext, TemplateDict)) or getattr(function, "_chatfmt_sound", False):
        return True
    name = getattr(function, "__name__", "")
    return (type(owner) is dict and name in _DICT_METHODS) or (type(owner) is list and name in ("index", "count"))


def _checked_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"sequence item: expected str instance, {type(value).__name__} found")
    return value


class _Compiled:
    """One template, compiled for tracing."""

    def __init__(self, text: str) -> None:
        self.environment, self.loops = _symbolic_sandbox(), _Loops()
        self.environment.filters["chatfmt characters"] = self.loops.characters
        self.environment.filters["chatfmt silent"] = self.loops.silent
        self.template = self.environment.from_string(text)
        own = self.template.root_render_func.__globals__
        own["str_join"] = own["markup_join"] = lambda parts: joined_any([str(part) for part in parts])

    def run(self, values: Mapping[str, Any]) -> tuple[list[str], list[tuple[int, str]]]:
        """What the template yields at top level, and the generation blocks: after how many of those, and their body."""
        blocks: list[str] = []
        spans: list[tuple[int, str]] = []
        self.loops.over_text.clear()

        def note(caller: Macro) -> str:
            body = caller()
            spans.append((len(blocks), body))
            return body

        note._chatfmt_sound = True  # type: ignore[attr-defined]
        self.environment.extensions[GenerationTag.identifier]._generation_support = note  # type: ignore[attr-defined]
        for block in self.template.root_render_func(self.template.new_context(values)):
            blocks.append(block)
        return blocks, spans


@lru_cache(maxsize=16)
def _compiled(text: str) -> _Compiled:
    """Raises what compiling raises, and Refused for constructs that are never traced."""
    return _Compiled(text)


_SOUND_FILTERS = frozenset((
    "default", "d", "string", "first", "last", "reverse", "list", "items", "map", "select", "reject", "selectattr",
    "rejectattr", "batch", "slice", "replace", "lower", "upper", "capitalize", "trim",
))  # fmt: skip
"""Filters of Jinja that only use methods of what they are given (read in jinja2 3.1.6, `filters.py`)."""
_SOUND_TESTS = frozenset((
    "string", "none", "defined", "undefined", "mapping", "boolean", "number", "integer", "float", "true", "false",
    "callable", "eq", "==", "equalto", "ne", "!=", "lower", "upper", "odd", "even", "divisibleby", "gt", ">", "ge",
    ">=", "greaterthan", "lt", "<", "le", "<=", "lessthan",
))  # fmt: skip
_RANDOM = frozenset(("random", "shuffle"))


def _symbolic_sandbox() -> ImmutableSandboxedEnvironment:
    environment = sandbox(SymbolicSandbox)
    for name, function in list(environment.filters.items()):
        if name not in _SOUND_FILTERS:
            environment.filters[name] = _guarded(f"|{name}", function, refused=name in _RANDOM)
    for name, function in list(environment.tests.items()):
        if name not in _SOUND_TESTS:
            environment.tests[name] = _guarded(f"is {name}", function)
    environment.filters.update(
        tojson=_tojson, join=_join, length=_length, count=_length, dictsort=_dictsort, title=_title, indent=_indent
    )
    environment.tests.update({"in": _in, "sequence": _is_sequence, "iterable": _is_iterable})
    return environment


def _guarded(name: str, function: Callable[..., Any], refused: bool = False) -> Callable[..., Any]:
    """The function, refusing symbols; it stays what Jinja's decorators made it."""
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if refused or symbolic(args[skip:]) or symbolic(kwargs):
            raise Refused(f"`{name}` with a text")
        return function(*args, **kwargs)

    if skip:
        guarded.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return guarded


def _in(value: Any, whole: Any) -> bool:
    if isinstance(value, Symbol) and isinstance(whole, str):
        if type(whole) is not str:
            raise Refused("a text is looked for in another")
        return bool(value._chatfmt_ask("within", whole))
    if isinstance(value, SYMBOLIC) and isinstance(whole, dict):
        return any(value == key for key in whole)
    if isinstance(whole, (str, list, tuple, dict, Parts)) or not symbolic(value):
        return value in whole
    raise Refused("a text is looked for in something unknown")


def _is_sequence(value: Any) -> bool:
    if isinstance(value, SYMBOLIC):
        return isinstance(value, (Symbol, Parts))
    try:
        len(value)
        return hasattr(value, "__getitem__")
    except Exception:
        return False


def _is_iterable(value: Any) -> bool:
    if isinstance(value, SYMBOLIC):
        return isinstance(value, (Symbol, Parts))
    try:
        iter(value)
        return True
    except TypeError:
        return False


def _length(value: Any) -> Any:
    return Length(value) if isinstance(value, Symbol) else len(value)


@jinja2.pass_environment
def _join(environment: jinja2.Environment, value: Any, d: Any = "", attribute: Any = None) -> str:
    if symbolic(d):
        raise Refused("`|join` with a text between")
    items: Iterable[Any] = value
    if attribute is not None:
        items = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    return join_with(str(d), map(str, items))


def _dictsort(value: Any, case_sensitive: bool = False, by: str = "key", reverse: bool = False) -> Any:
    if by != "key" and symbolic(value):
        raise Refused("`|dictsort` by texts")
    return jinja2.filters.do_dictsort(value, case_sensitive, by, reverse)  # type: ignore[arg-type]


def _title(text: Any) -> str:
    return text._chatfmt_make("titled") if isinstance(text, Symbol) else jinja2.filters.do_title(text)


def _indent(text: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    if isinstance(text, Symbol):
        return text._chatfmt_make("indent", width, first, blank)
    return jinja2.filters.do_indent(text, width, first, blank)


def _tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """The JSON text of a value: symbols in it become pieces of their own, everything between them is `json.dumps`'s."""
    if symbolic((ensure_ascii, indent, separators, sort_keys)):
        raise Refused("`|tojson` with a text as an option")
    marks: dict[str, str] = {}
    marked = _marked(x, marks, bool(ensure_ascii))
    text = json.dumps(marked, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if not marks:
        return text
    return joined_any([marks.get(part, part) for part in re.split('("@chatfmt[0-9a-f]{24}@")', text)])


def _marked(value: Any, marks: dict[str, str], ascii: bool) -> Any:
    """The value with a unique text in place of each symbol; `marks` says which JSON text stands for which symbol."""
    if isinstance(value, Length):
        return value._chatfmt_pinned()
    if isinstance(value, (Symbol, WholeNumber, Fraction)):
        mark = f"@chatfmt{secrets.token_hex(12)}@"
        symbol = value if isinstance(value, Symbol) else value._chatfmt_symbol
        marks[f'"{mark}"'] = symbol._chatfmt_make("json", ascii)
        return mark
    if isinstance(value, dict):
        return {key: _marked(item, marks, ascii) for key, item in value.items()}
    if isinstance(value, (list, tuple, Parts)):
        return [_marked(item, marks, ascii) for item in value]
    return value
