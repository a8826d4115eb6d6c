"""The sandbox of `environment` with counters: a template that asks for too much is refused, alike on every machine.

Jinja's sandbox stops escapes, not cost, and the cost begins at compile time, where constants are folded. Here the
code generator folds nothing but literal text, loops and macros count steps, and what can grow a text, a list or a
number beyond all bounds is measured before it is done. What slips through meets the limits of the process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import GeneratorType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct
from msgspec.structs import asdict

from ..jinja.environment import TemplateNamespace, sandbox
from .sizes import HOLDERS, Sizes


class Limits(Struct, frozen=True):
    """What a template may use; sizes in characters, `seconds` of wall clock a request as the last resort."""

    source: int = 1_000_000
    depth: int = 100
    """Nodes of the syntax tree above one another."""
    steps: int = 1_000_000
    """Turns of loops and calls of macros a row."""
    range: int = 10_000
    string: int = 8_000_000
    items: int = 1_000_000
    """Elements of a container, with those of the containers in it."""
    bits: int = 4096
    """Of a whole number."""
    output: int = 16_000_000
    memory: int = 512 << 20
    """Bytes of address space of the process."""
    seconds: float = 30.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_LOOKS = 16
"""So many containers are looked into in the time of a step."""


class OverLimit(Exception):
    """A template asks for more than `Limits` allow; in words what."""


class _Generator(CodeGenerator):
    """Code that counts: steps, the size of what `~` makes, and of what is built of values. Nothing but text is computed
    at compile time."""

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.tick()")  # the body of each loop, macro, branch and block
        super().blockvisit(nodes, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.join_texts((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._built(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._built(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        self._built(super().visit_Tuple, node, frame)

    def visit_Name(self, node: nodes.Name, frame: Frame) -> None:
        visit = super().visit_Name
        self._built(visit, node, frame) if node.name in ("varargs", "kwargs") else visit(node, frame)

    def _built(self, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        """Code that measures what an expression builds, unless it is of constants or a place to store something."""
        named = isinstance(node, nodes.Name) or node.find(nodes.Name) is not None
        measured = named and getattr(node, "ctx", "load") == "load"
        self.write("environment.built(" if measured else "")
        visit(node, frame)
        self.write(")" if measured else "")

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


class LimitedSandbox(ImmutableSandboxedEnvironment):
    """The sandbox with counters; `start_row` sets them back."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("+", "*", "**", "%"))
    limits = Limits()
    steps = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._sizes = Sizes()

    def start_row(self) -> None:
        self.steps = 0
        self._sizes.clear()

    def built(self, value: Any) -> Any:
        """What a template made, measured with all that it holds where that may be held several times."""
        if type(value) in HOLDERS:
            size, looked = self._sizes.of(value, self.limits.items)
            self.check_size(size, self.limits.items, "items")
            self.tick(looked // _LOOKS)
        return value

    def tick(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > self.limits.steps:
            raise OverLimit(f"the template takes more than {self.limits.steps:,} steps")

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        check_depth(tree, self.limits.depth)
        return tree

    def join_texts(self, values: Iterable[Any]) -> str:
        """`a ~ b ~ …`"""
        return self._sized("".join(map(str, values)), self.limits.string)

    def joined_output(self, pieces: Iterable[str]) -> str:
        """What a template, a macro or a block printed."""
        kept, size = [], 0
        for piece in pieces:
            size += len(piece)
            self.check_size(size, self.limits.output, "characters of output")
            kept.append(piece)
        return "".join(kept)

    def _sized(self, text: str, most: int) -> str:
        self.check_size(len(text), most, "characters")
        return text

    def check_size(self, size: float, most: int, unit: str) -> None:
        if size > most:
            raise OverLimit(f"the template makes more than {most:,} {unit}")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self._check_operator(operator, left, right)
        made = super().call_binop(context, operator, left, right)
        if type(made) not in HOLDERS:
            return made
        if operator == "+":
            self._sizes.joined(made, self.built(left), self.built(right), self.limits.items)
        return self.built(made)

    def _check_operator(self, operator: str, left: Any, right: Any) -> None:
        sized = (str, bytes, list, tuple)
        if operator == "+" and isinstance(left, sized) and isinstance(right, sized):
            self._check_length(left, len(left) + len(right))
        elif operator == "*":
            self._check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            self.check_size(left.bit_length() * max(right, 0), self.limits.bits, "bits of a number")
        elif operator == "%" and isinstance(left, (str, bytes)):
            self.check_format(left, (right,))

    def _check_product(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            self.check_size(left.bit_length() + right.bit_length(), self.limits.bits, "bits of a number")
        for value, times in ((left, right), (right, left)):
            if isinstance(value, (str, bytes, list, tuple)) and isinstance(times, int):
                self._check_length(value, len(value) * max(times, 0))

    def _check_length(self, like: Any, size: int) -> None:
        text = isinstance(like, (str, bytes))
        self.check_size(size, self.limits.string if text else self.limits.items, "characters" if text else "items")

    def check_format(self, pattern: Any, values: Iterable[Any]) -> None:
        """Refuse widths and precisions beyond the limit, in the pattern or among the values (`%*d`, `{:{}}`)."""
        widths = [int(digits) for digits in _NUMBERS.findall(str(pattern)) if len(digits) < 20 or self._too_wide()]
        widths += [value for value in _flat(values) if isinstance(value, int) and ("*" in pattern or "{}" in pattern)]
        self.check_size(sum(max(width, 0) for width in widths), self.limits.string, "characters")

    def _too_wide(self) -> NoReturn:
        raise OverLimit(f"the template makes more than {self.limits.string:,} characters")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` comes out of the sandbox wrapped; the measure stands before it."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        safe = wrapped

        def measured(*values: Any, **named: Any) -> str:
            self.check_format(value.__self__, (*values, *named.values()))
            return safe(*values, **named)

        return measured

    def call(self, context: Context, function: Any, *arguments: Any, **named: Any) -> Any:
        self.tick()
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, (str, bytes, int)) and name in _METHODS:
            _METHODS[name](self, owner, *arguments, **named)
        made = super().call(context, function, *arguments, **named)
        return self.built(made) if type(made) in HOLDERS else made


_NUMBERS = re.compile(r"\d+")


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from value
        elif isinstance(value, Mapping):
            yield from value.values()
        else:
            yield value


def _width(env: LimitedSandbox, text: Any, width: Any = 0, *more: Any, **named: Any) -> None:
    widths = [value for value in (width, *named.values()) if isinstance(value, int)]
    env.check_size(sum(widths), env.limits.string, "characters")


def _expandtabs(env: LimitedSandbox, text: str, tabsize: Any = 8) -> None:
    if isinstance(tabsize, int):
        env.check_size(len(text) + text.count("\t") * max(tabsize, 0), env.limits.string, "characters")


def _replace(env: LimitedSandbox, text: Any, old: Any = "", new: Any = "", count: Any = -1, **named: Any) -> None:
    text, old, new = str(text), str(old), str(new)
    env.check_size(len(text) + text.count(old) * len(new), env.limits.string, "characters")


def _join(env: LimitedSandbox, separator: Any, values: Any = (), *more: Any) -> None:
    if isinstance(values, (list, tuple)):
        size = sum(len(value) for value in values if isinstance(value, (str, bytes)))
        env.check_size(size + len(values) * len(str(separator)), env.limits.string, "characters")


def _translate(env: LimitedSandbox, text: str, table: Any = None, *more: Any) -> None:
    if isinstance(table, Mapping):
        longest = max((len(value) for value in table.values() if isinstance(value, str)), default=1)
        env.check_size(len(text) * longest, env.limits.string, "characters")


def _format(env: LimitedSandbox, text: Any, *values: Any, **named: Any) -> None:
    env.check_format(text, (*values, *named.values()))


_METHODS: dict[str, Callable[..., None]] = {
    "center": _width, "ljust": _width, "rjust": _width, "zfill": _width, "to_bytes": _width,
    "expandtabs": _expandtabs, "replace": _replace, "join": _join, "translate": _translate,
}  # fmt: skip
"""Methods of texts and numbers that can make much of little, and what measures them."""


def _checked_filters(env: LimitedSandbox) -> dict[str, Any]:
    """Filters that can make much of little, each measured before it runs."""
    measures: dict[str, Callable[..., None]] = {
        "center": _width, "indent": _indent, "wordwrap": _indent, "replace": _filter_replace, "format": _format,
        "batch": _pieces, "slice": _pieces, "tojson": _tojson,
    }  # fmt: skip
    measures |= dict.fromkeys(("dictsort", "groupby", "list", "reverse", "sort", "sum"), _nothing)
    return {name: _measured(env, measure, env.filters[name]) for name, measure in measures.items()}


def _nothing(env: LimitedSandbox, *arguments: Any, **named: Any) -> None:
    """No measure before a filter that builds a container: it is measured when it is built."""


def _measured(env: LimitedSandbox, measure: Callable[..., None], filter: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with a measure before it; how Jinja passes the environment to it stays as it is."""
    passed = getattr(filter, "jinja_pass_arg", None)

    def measured(*arguments: Any, **named: Any) -> Any:
        env.tick()
        measure(env, *(arguments[1:] if passed else arguments), **named)
        made = filter(*arguments, **named)
        return (env.built(piece) for piece in made) if isinstance(made, GeneratorType) else env.built(made)

    if passed:
        measured.jinja_pass_arg = passed  # type: ignore[attr-defined]
    measured.__name__, measured.__qualname__ = filter.__name__, filter.__qualname__
    return measured


def _indent(env: LimitedSandbox, text: Any, width: Any = 4, *more: Any, **named: Any) -> None:
    size = len(width) if isinstance(width, str) else width if isinstance(width, int) else 0
    wraps = [len(value) for value in (*more, *named.values()) if isinstance(value, str)]
    lines = str(text).count("\n") + 1
    env.check_size(len(str(text)) * (1 + sum(wraps)) + lines * max(size, 0), env.limits.string, "characters")


def _filter_replace(env: LimitedSandbox, text: Any, old: Any = "", new: Any = "", *more: Any, **named: Any) -> None:
    _replace(env, text, old, new)


def _pieces(env: LimitedSandbox, values: Any, number: Any = 0, *more: Any, **named: Any) -> None:
    if isinstance(number, int):
        env.check_size(number, env.limits.range, "items")


def _tojson(env: LimitedSandbox, value: Any, *more: Any, **named: Any) -> None:
    widths = [item for item in (*more, *named.values()) if isinstance(item, int)]
    env.check_size(max(widths, default=0), 1000, "characters of indent")


def check_depth(tree: nodes.Node, most: int) -> None:
    """Raises OverLimit for a syntax tree deeper than `most`; does not recurse."""
    level: list[nodes.Node] = [tree]
    depth = 0
    while level:
        depth += 1
        if depth > most:
            raise OverLimit(f"the template is nested deeper than {most} levels")
        level = [child for node in level for child in node.iter_child_nodes()]


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise OverLimit(f"the template uses `{name}`, which gives another text each time")

    return refuse


def limited(limits: Limits) -> LimitedSandbox:
    """A new environment as `environment.sandbox` makes it, with counters for `limits`."""
    env = sandbox(LimitedSandbox)
    assert isinstance(env, LimitedSandbox)
    env.limits, env.optimized, env.concat = limits, False, env.joined_output  # type: ignore[method-assign]
    env.filters.update(_checked_filters(env))
    env.filters["random"] = _refused("random")
    env.globals.update(range=_ranges(limits), lipsum=_refused("lipsum"), namespace=_namespaces(env))
    return env


def _namespaces(env: LimitedSandbox) -> type[TemplateNamespace]:
    """`namespace`, each counted when it is printed: they can hold one another, and what they hold changes."""

    class Counted(TemplateNamespace):
        def __repr__(self) -> str:
            env.tick(_LOOKS)
            return super().__repr__()

    Counted.__module__, Counted.__qualname__ = TemplateNamespace.__module__, TemplateNamespace.__qualname__
    return Counted


def _ranges(limits: Limits) -> Callable[..., range]:
    def bounded_range(*bounds: int) -> range:
        numbers = range(*bounds)
        if (numbers.stop - numbers.start) // numbers.step > limits.range:
            raise OverLimit(f"the template counts to more than {limits.range:,}")
        return numbers

    return bounded_range


def compile_limited(text: str, limits: Limits) -> jinja2.Template:
    """The compiled template of `text`; raises OverLimit, jinja2.TemplateSyntaxError, RecursionError or MemoryError."""
    if len(text) > limits.source:
        raise OverLimit(f"the template is longer than {limits.source:,} characters")
    return limited(limits).from_string(text)
