"""The sandbox for tracing: that of `jinja.environment`, in which nothing reads a symbol unrecorded.

C code reads the buffer of a symbol and not its methods. Each operator, call, filter, test and join that could pass a
symbol to C code is therefore replaced by a version that knows symbols, or refuses.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

import jinja2
from jinja2 import Environment, nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ..jinja.environment import GenerationTag, TemplateDict, TemplateNamespace, raise_exception, sandbox
from .symbolic_numbers import SYMBOLIC, SymbolicFloat, SymbolicInt, SymbolicLength, symbolic
from .symbols import Character, SplitParts, Symbol, TraceRefused, join_with, joined_any, parts_of


class _InAsTest(NodeTransformer):
    """Turn `a in b` into the test `a is in(b)`, which knows symbols."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        kinds = [operand.op for operand in node.ops]
        if not {"in", "notin"} & set(kinds):
            return node
        if len(kinds) > 1:
            raise TraceRefused("`in` inside a chained comparison", every_row=True)
        test = nodes.Test(node.expr, "in", [node.ops[0].expr], [], None, None).set_lineno(node.lineno)
        test.set_environment(cast(Environment, node.environment))
        if kinds == ["in"]:
            return test
        negated = nodes.Not(test).set_lineno(node.lineno)
        return negated.set_environment(cast(Environment, node.environment))


class _SilentLoops(NodeTransformer):
    """Let loops run over a text if they print nothing for a character, as loops over content parts do.

    Only for loops that cannot distinguish characters and have no side effects: no `loop`, no `else`, no condition, no
    calls, no assignment to a namespace. Such a loop runs for one `Character` and must print nothing.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if node.test or node.else_ or node.recursive or not isinstance(node.target, nodes.Name):
            return node
        if any(_has_effect(found) for part in node.body for found in (part, *part.find_all(nodes.Node))):
            return node
        node.iter = _filter(node.iter, "chatfmt characters", node)
        block = nodes.FilterBlock([node], _filter(None, "chatfmt silent", node))
        return block.set_lineno(node.lineno).set_environment(cast(Environment, node.environment))


def _has_effect(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Name):
        return node.name == "loop"
    return isinstance(node, (nodes.Call, nodes.CallBlock, nodes.NSRef, nodes.Break, nodes.Continue, nodes.Macro))


def _filter(subject: Any, name: str, node: nodes.Node) -> nodes.Filter:
    found = nodes.Filter(subject, name, [], [], None, None).set_lineno(node.lineno)
    return cast(nodes.Filter, found.set_environment(cast(Environment, node.environment)))


class _Loops:
    """The running loops that `_SilentLoops` has rewritten; `over_text` marks those over a text."""

    def __init__(self) -> None:
        self.over_text: list[bool] = []

    def characters(self, value: Any) -> Any:
        text = isinstance(value, Symbol)
        self.over_text.append(text)
        return ([Character(value._chatfmt_tape)] if value else []) if text else value

    def silent(self, printed: str) -> str:
        if self.over_text.pop() and parts_of(printed):
            raise TraceRefused("a loop over the characters of a text")
        return printed


class SymbolicSandbox(ImmutableSandboxedEnvironment):
    """The environment in which templates are traced."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))
    intercepted_unops = frozenset(("+", "-"))
    concat = staticmethod(lambda texts: joined_any(list(texts)))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        if next(tree.find_all((nodes.EvalContextModifier, nodes.Include, nodes.Import, nodes.FromImport)), None):
            raise TraceRefused("`autoescape`, `include` or `import`", every_row=True)
        return cast(nodes.Template, _SilentLoops().visit(_InAsTest().visit(tree)))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if symbolic(argument):
            raise TraceRefused("a text or number is used as a key")
        if isinstance(obj, Character):
            return self.getattr(obj, str(argument))
        return super().getitem(obj, argument)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, SYMBOLIC) and not isinstance(obj, Symbol) and not attribute.startswith("_"):
            raise TraceRefused(f"`{attribute}` of a number or of the parts of a text")
        if isinstance(obj, Character):
            if hasattr(str, attribute):
                raise TraceRefused(f"`{attribute}` of a character")
            return self.undefined(obj="", name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not symbolic(left) and not symbolic(right):
            return super().call_binop(context, operator, left, right)
        if operator == "+" and (
            isinstance(left, (Symbol, SymbolicLength)) or isinstance(right, (Symbol, SymbolicLength))
        ):
            return left + right
        if operator == "+" and type(left) is list and type(right) is list:
            return left + right
        if operator == "-" and isinstance(left, (int, SymbolicLength)) and isinstance(right, (int, SymbolicLength)):
            return left - right
        raise TraceRefused(f"`{operator}` with a text or number")

    def call_unop(self, context: Any, operator: str, arg: Any) -> Any:
        if symbolic(arg):
            raise TraceRefused(f"`{operator}` before a text or number")
        return super().call_unop(context, operator, arg)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if __obj is _LIPSUM:
            raise TraceRefused("it prints random text", every_row=True)
        named = {name: value for name, value in kwargs.items() if name not in _FOR_CONTEXT}
        if symbolic(args) or symbolic(named):
            owner = getattr(__obj, "__self__", None)
            if type(owner) is str and getattr(__obj, "__name__", "") == "join" and len(args) == 1 and not named:
                return join_with(owner, map(_checked_text, args[0]))
            if not _takes_symbols(__obj, owner):
                raise TraceRefused(f"a text is given to `{getattr(__obj, '__name__', type(__obj).__name__)}`")
        return super().call(__context, __obj, *args, **kwargs)


_FOR_CONTEXT = ("_loop_vars", "_block_vars")
"""Arguments that compiled templates pass to `Context.call`, which removes them."""
_LIPSUM = jinja2.defaults.DEFAULT_NAMESPACE["lipsum"]
_DICT_METHODS = frozenset(("get", "items", "keys", "values", "copy", "fromkeys"))


def _takes_symbols(function: Any, owner: Any) -> bool:
    """Return whether a function is Python code, or C code that only stores or compares its arguments."""
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


class Compiled:
    """One template, compiled for tracing."""

    def __init__(self, text: str) -> None:
        self.environment, self.loops = _symbolic_sandbox(), _Loops()
        self.environment.filters["chatfmt characters"] = self.loops.characters
        self.environment.filters["chatfmt silent"] = self.loops.silent
        self.template = self.environment.from_string(text)
        own = self.template.root_render_func.__globals__
        own["str_join"] = own["markup_join"] = lambda parts: joined_any([str(part) for part in parts])

    def run(self, values: Mapping[str, Any]) -> tuple[list[str], list[tuple[int, str]]]:
        """Return the blocks of output, and for each generation tag the number of blocks before it and its body."""
        blocks: list[str] = []
        spans: list[tuple[int, str]] = []
        self.loops.over_text.clear()

        def note(caller: Macro) -> str:
            body = caller()
            spans.append((len(blocks), body))
            return body

        note._chatfmt_sound = True  # type: ignore[attr-defined]
        self.environment.extensions[GenerationTag.identifier]._generation_support = note  # type: ignore[attr-defined]
        for block in self.template.root_render_func(self.template.new_context(dict(values))):
            blocks.append(block)
        return blocks, spans


@lru_cache(maxsize=16)
def compiled(text: str) -> Compiled:
    """Return the template compiled for tracing; raises TraceRefused for constructs that are never traced."""
    return Compiled(text)


_SOUND_FILTERS = frozenset((
    "default", "d", "string", "first", "last", "reverse", "list", "items", "map", "select", "reject", "selectattr",
    "rejectattr", "batch", "slice", "replace", "lower", "upper", "capitalize", "trim",
))  # fmt: skip
"""Filters of Jinja that only use methods of their arguments (checked in `filters.py` of jinja2 3.1.6)."""
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
    for name, test in list(environment.tests.items()):
        if name not in _SOUND_TESTS:
            environment.tests[name] = _guarded(f"is {name}", cast(Callable[..., Any], test))
    environment.filters.update(
        tojson=_tojson, join=_join, length=_length, count=_length, dictsort=_dictsort, title=_title, indent=_indent
    )
    environment.tests.update({"in": _in, "sequence": _is_sequence, "iterable": _is_iterable})
    return environment


def _guarded(name: str, function: Callable[..., Any], refused: bool = False) -> Callable[..., Any]:
    """Return the function with a check that refuses symbols; Jinja passes it the same first argument as before."""
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if refused or symbolic(args[skip:]) or symbolic(kwargs):
            raise TraceRefused(f"`{name}` with a text")
        return function(*args, **kwargs)

    if skip:
        guarded.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return guarded


def _in(value: Any, whole: Any) -> bool:
    if isinstance(value, Symbol) and isinstance(whole, str):
        if type(whole) is not str:
            raise TraceRefused("a text is looked for in another")
        return bool(value._chatfmt_ask("within", whole))
    if isinstance(value, SYMBOLIC) and isinstance(whole, dict):
        return any(value == key for key in whole)
    if isinstance(whole, (str, list, tuple, dict, SplitParts)) or not symbolic(value):
        return value in whole
    raise TraceRefused("a text is looked for in something unknown")


def _is_sequence(value: Any) -> bool:
    if isinstance(value, SYMBOLIC):
        return isinstance(value, (Symbol, SplitParts))
    try:
        len(value)
        return hasattr(value, "__getitem__")
    except Exception:
        return False


def _is_iterable(value: Any) -> bool:
    if isinstance(value, SYMBOLIC):
        return isinstance(value, (Symbol, SplitParts))
    try:
        iter(value)
        return True
    except TypeError:
        return False


def _length(value: Any) -> Any:
    return SymbolicLength(value) if isinstance(value, Symbol) else len(value)


@jinja2.pass_environment
def _join(environment: jinja2.Environment, value: Any, d: Any = "", attribute: Any = None) -> str:
    if symbolic(d):
        raise TraceRefused("`|join` with a text between")
    items: Iterable[Any] = value
    if attribute is not None:
        items = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    return join_with(str(d), map(str, items))


def _dictsort(value: Any, case_sensitive: bool = False, by: str = "key", reverse: bool = False) -> Any:
    if by != "key" and symbolic(value):
        raise TraceRefused("`|dictsort` by texts")
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
    """Return the JSON text of a value: symbols become pieces of their own, the text between is that of `json.dumps`."""
    if symbolic((ensure_ascii, indent, separators, sort_keys)):
        raise TraceRefused("`|tojson` with a text as an option")
    marks: dict[str, str] = {}
    marked = _marked(x, marks, bool(ensure_ascii))
    text = json.dumps(marked, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if not marks:
        return text
    return joined_any([marks.get(part, part) for part in re.split('("@chatfmt[0-9a-f]{24}@")', text)])


def _marked(value: Any, marks: dict[str, str], ascii: bool) -> Any:
    """Return the value with a unique text in place of each symbol; `marks` maps its JSON text to the symbol."""
    if isinstance(value, SymbolicLength):
        return value._chatfmt_pinned()
    if isinstance(value, (Symbol, SymbolicInt, SymbolicFloat)):
        mark = f"@chatfmt{os.urandom(12).hex()}@"
        symbol = value if isinstance(value, Symbol) else value._chatfmt_symbol
        marks[f'"{mark}"'] = symbol._chatfmt_make("json", ascii)
        return mark
    if isinstance(value, dict):
        return {key: _marked(item, marks, ascii) for key, item in value.items()}
    if isinstance(value, (list, tuple, SplitParts)):
        return [_marked(item, marks, ascii) for item in value]
    return value
