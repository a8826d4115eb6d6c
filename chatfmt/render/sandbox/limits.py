"""Jinja's sandbox with counters: a template that uses too much is refused, on every machine alike.

Jinja's sandbox stops escapes, not cost, and cost begins at compile time with constant folding. Here the code generator
folds nothing but literal text, loops and macros count steps, and operations that can make a huge text, list or number
are measured before they run. Whatever slips through meets the limits of the process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from types import GeneratorType
from typing import Any, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import asdict

from ..jinja.environment import TemplateNamespace, sandbox
from .counting_code import CountingGenerator
from .sizes import CHARACTERS_PER_ITEM, HOLDERS, Sizes


class SandboxLimits(Struct, frozen=True):
    """The most that a template may use; text sizes are in characters."""

    source: int = 250_000
    """Of the template itself: some of what Jinja compiles takes time with the square of its number."""
    depth: int = 100
    """Levels of nested nodes in the syntax tree."""
    steps: int = 1_000_000
    """Loop iterations, branches, calls, and texts and containers that are gone through, per row."""
    characters: int = 1024
    """Characters of a text that are gone through in a step."""
    range: int = 10_000
    string: int = 8_000_000
    items: int = 1_000_000
    """Elements of a container, including those of nested containers; 64 characters of a text in it count as another."""
    bits: int = 4096
    """Bits of an integer."""
    output: int = 16_000_000
    memory: int = 512 << 20
    """Bytes of address space of the process."""
    seconds: float = 30.0
    """Wall-clock seconds per request: the last resort."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


FOR_ROWS, FOR_SAMPLES = SandboxLimits(), SandboxLimits(steps=50_000, characters=128, string=1_000_000, output=2_000_000)
"""The limits for rows, and for the short conversations that chatfmt makes to find out what a template does."""
_CONTAINERS_PER_STEP = 16
"""The number of containers that are measured in the time of a step."""
_COPIES_PER_STEP = 256
"""The number of elements that are copied from one list to another in the time of a step."""
_MOST_BITS = 1 << 16
"""Bits of an integer that is read, not computed: those of 19,728 digits."""
_SLOW = {
    "urlize": 1024, "wordwrap": 1024, "pprint": 256, "title": 128, "striptags": 128, "urlencode": 64, "indent": 32,
    "translate": 32, "wordcount": 32, "lower": 16, "upper": 16, "swapcase": 16, "casefold": 16, "capitalize": 16,
    "strftime_now": 16, "dictsort": 8, "groupby": 8, "join": 8, "max": 8, "min": 8, "replace": 8, "rsplit": 8,
    "sort": 8, "split": 8, "splitlines": 8, "truncate": 8, "unique": 8,
}  # fmt: skip
"""How many times as long as others some filters and methods take to go through a text or a container, measured."""


class OverLimit(Exception):
    """A template uses more than its `SandboxLimits` allow; the message names the limit."""


class LimitedSandbox(ImmutableSandboxedEnvironment):
    """The sandbox with counters, which `start_row` resets."""

    code_generator_class = CountingGenerator
    intercepted_binops = frozenset(("+", "*", "**", "%"))
    limits = SandboxLimits()
    steps = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._sizes = Sizes()

    def start_row(self) -> None:
        self.steps = 0
        self._sizes.clear()

    def measured(self, value: Any) -> Any:
        """Return `value` after measuring it with everything nested in it; raises OverLimit."""
        if type(value) in HOLDERS:
            size, visited = self._sizes.measure(value, self.limits.items)
            self.check_size(size, self.limits.items, "items")
            self.tick(visited // _CONTAINERS_PER_STEP)
        return value

    def weighed(self, value: Any, slowness: int = 1) -> Any:
        """Return `value` after counting the steps of an operation that goes through all of it."""
        if isinstance(value, (str, bytes)):
            self.tick(len(value) * slowness // self.limits.characters)
        elif type(value) in HOLDERS:
            size, visited = self._sizes.measure(value, self.limits.items)
            items = self.limits.characters // CHARACTERS_PER_ITEM
            self.tick(size * slowness // items + visited // _CONTAINERS_PER_STEP)
        elif isinstance(value, int):
            self.check_size(value.bit_length(), _MOST_BITS, "bits of a number")
        return value

    def tick(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > self.limits.steps:
            raise OverLimit(f"the template takes more than {self.limits.steps:,} steps")

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        check_depth(tree, self.limits.depth)
        return tree

    def counted(self, values: Iterable[Any]) -> Iterator[Any]:
        """Yield the values, each measured and a step."""
        for value in values:
            self.tick()
            yield self.measured(value)

    def join_texts(self, values: Iterable[Any]) -> str:
        """Return the value of `a ~ b ~ …`."""
        return self._joined(map(str, values), self.limits.string, "characters")

    def joined_output(self, pieces: Iterable[str]) -> str:
        """Join the output of a template, a macro or a block."""
        return self._joined(pieces, self.limits.output, "characters of output")

    def _joined(self, pieces: Iterable[str], most: int, unit: str) -> str:
        kept, size = [], 0
        for piece in pieces:
            size += len(piece)
            self.check_size(size, most, unit)
            kept.append(piece)
        self.tick(size // self.limits.characters)
        return "".join(kept)

    def check_size(self, size: float, most: int, unit: str) -> None:
        if size > most:
            raise OverLimit(f"the template makes more than {most:,} {unit}")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self._check_operator(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        if type(result) not in HOLDERS:
            return self.weighed(result)
        self.tick(len(result) // _COPIES_PER_STEP)
        if operator == "+":
            self._sizes.add_concatenation(result, self.measured(left), self.measured(right), self.limits.items)
        return self.measured(result)

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

    def check_format(self, pattern: Any, values: Iterable[Any] = ()) -> None:
        """Raise OverLimit for a width or precision that is too large, in the pattern or the values (`%*d`).

        Also for values that are too long together: `%(name)s` may print one again and again.
        """
        pattern, values = str(pattern), [*_flat(values)]
        widths = [int(digits) for digits in _NUMBERS.findall(pattern) if len(digits) < 20 or self._too_wide()]
        widths += [value for value in values if isinstance(value, int) and "*" in pattern]
        sizes = [*map(self._length, values)]
        size = max(sum(sizes), max(sizes, default=0) * pattern.count("%("))
        self.check_size(size + sum(max(width, 0) for width in widths), self.limits.string, "characters")

    def _length(self, value: Any) -> int:
        """Return about how many characters a text, or a container that is printed, has."""
        if type(value) in HOLDERS:
            return CHARACTERS_PER_ITEM * self._sizes.measure(value, self.limits.items)[0]
        return len(value) if isinstance(value, (str, bytes)) else 0

    def _too_wide(self) -> NoReturn:
        raise OverLimit(f"the template makes more than {self.limits.string:,} characters")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return the sandbox's wrapper of `str.format`, which measures what it formats."""
        if (safe := super().wrap_str_format(value)) is None:
            return None
        text = value.__self__

        def checked(*values: Any, **named: Any) -> str:
            if value.__name__ == "format_map":
                if named or len(values) != 1:
                    return safe(*values, **named)  # raises
                (named,), values = values, ()
            escape = {"escape": text.escape} if isinstance(text, Markup) else {}
            formatter = (_EscapeFormatter if escape else _Formatter)(self, **escape)
            return cast(str, type(text)(formatter.vformat(text, values, named)))

        return checked

    def call(self, context: Context, function: Any, *arguments: Any, **named: Any) -> Any:
        self.tick(1 + len(arguments) // _CONTAINERS_PER_STEP)
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, (str, bytes, int)) and name in _METHODS:
            if name == "join":
                arguments = _held(arguments)
            _METHODS[name](self, owner, *arguments, **named)
        if name == "strftime_now":
            self.check_format((arguments, named))
        slowness = _SLOW.get(name, 1)
        for value in (owner, *arguments):
            self.weighed(value, slowness)
        return self.measured(self.weighed(super().call(context, function, *arguments, **named)))


class _Formatter(SandboxedFormatter):
    """Format as the sandbox does, and measure each field: its width may be a value itself (`{:{}}`)."""

    _made = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        env = cast(LimitedSandbox, self._env)
        env.check_format(format_spec)
        text = super().format_field(value, format_spec)
        self._made += len(text)
        env.check_size(self._made, env.limits.string, "characters")
        return text


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    """The same for text that is marked as safe."""


_NUMBERS = re.compile(r"\d+")


def _held(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments that can be measured before they are gone through: lists in the place of iterators."""
    return tuple([*value] if isinstance(value, Iterator) else value for value in arguments)


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
    if isinstance(values, Sized) and isinstance(values, Iterable):
        size = sum(len(value) for value in values if isinstance(value, (str, bytes)))
        env.check_size(size + len(values) * len(str(separator)), env.limits.string, "characters")


def _search(env: LimitedSandbox, text: Any, sought: Any = "", *more: Any, **named: Any) -> None:
    """Count the steps of comparing with what is sought at each place, as searching backwards and stripping do."""
    if isinstance(sought, (str, bytes)):
        env.tick(len(text) * len(sought) // env.limits.characters)


def _translate(env: LimitedSandbox, text: str, table: Any = None, *more: Any) -> None:
    if isinstance(table, Mapping):
        longest = max((len(value) for value in table.values() if isinstance(value, str)), default=1)
        env.check_size(len(text) * longest, env.limits.string, "characters")


def _format(env: LimitedSandbox, text: Any, *values: Any, **named: Any) -> None:
    env.check_format(text, (*values, *named.values()))


_METHODS: dict[str, Callable[..., None]] = {
    "center": _width, "ljust": _width, "rjust": _width, "zfill": _width, "to_bytes": _width,
    "expandtabs": _expandtabs, "replace": _replace, "join": _join, "translate": _translate,
    "strip": _search, "lstrip": _search, "rstrip": _search,
    "rfind": _search, "rindex": _search, "rsplit": _search, "rpartition": _search,
}  # fmt: skip
"""Methods of str, bytes and int that can return or take far more than they get, and the check before each."""


def _checked_filters(env: LimitedSandbox) -> dict[str, Any]:
    """Wrap all filters to count their steps, and those that can return far more than they get in a check."""
    checks: dict[str, Callable[..., None]] = {
        "center": _width, "indent": _indent, "wordwrap": _indent, "replace": _filter_replace, "format": _format,
        "batch": _count, "slice": _count, "tojson": _tojson, "round": _round,
        "trim": _search, "join": _filter_join, "sum": _sum, "sort": _elements, "groupby": _elements,
    }  # fmt: skip
    return {
        name: _checked_filter(env, checks.get(name, _no_check), filter, _SLOW.get(name, 1))
        for name, filter in env.filters.items()
    }


def _no_check(env: LimitedSandbox, *arguments: Any, **named: Any) -> None:
    """Check nothing before a filter; its arguments are weighed, and its result is measured."""


def _weighed_test(env: LimitedSandbox, test: Callable[..., Any]) -> Callable[..., Any]:
    """Return the test of `is`, which counts the steps of going through its arguments."""

    def weighed(*arguments: Any) -> Any:
        for value in arguments:
            env.weighed(value)
        return test(*arguments)

    if passed := getattr(test, "jinja_pass_arg", None):
        weighed.jinja_pass_arg = passed  # type: ignore[attr-defined]
    return weighed


def _checked_filter(
    env: LimitedSandbox, check: Callable[..., None], filter: Callable[..., Any], slowness: int
) -> Callable[..., Any]:
    """Return the filter with a check before it; Jinja passes it the environment as before."""
    passed = getattr(filter, "jinja_pass_arg", None)

    def checked(*arguments: Any, **named: Any) -> Any:
        env.tick()
        if check in (_filter_join, _sum):
            arguments = _held(arguments)
        for value in arguments:
            env.weighed(value, slowness)
        check(env, *(arguments[1:] if passed else arguments), **named)
        result = filter(*arguments, **named)
        return env.counted(result) if isinstance(result, GeneratorType) else env.measured(env.weighed(result))

    if passed:
        checked.jinja_pass_arg = passed  # type: ignore[attr-defined]
    checked.__name__, checked.__qualname__ = filter.__name__, filter.__qualname__
    return checked


def _indent(env: LimitedSandbox, text: Any, width: Any = 4, *more: Any, **named: Any) -> None:
    size = len(width) if isinstance(width, str) else width if isinstance(width, int) else 0
    wraps = [len(value) for value in (*more, *named.values()) if isinstance(value, str)]
    lines = str(text).count("\n") + 1
    env.check_size(len(str(text)) * (1 + sum(wraps)) + lines * max(size, 0), env.limits.string, "characters")


def _filter_replace(env: LimitedSandbox, text: Any, old: Any = "", new: Any = "", *more: Any, **named: Any) -> None:
    _replace(env, text, old, new)


def _count(env: LimitedSandbox, values: Any, number: Any = 0, *more: Any, **named: Any) -> None:
    if isinstance(number, int):
        env.check_size(number, env.limits.range, "items")


def _round(env: LimitedSandbox, value: Any, precision: Any = 0, method: Any = "common", **more: Any) -> None:
    """Check the power of ten that is computed, which the rounding of a float to many digits does without."""
    if isinstance(precision, int) and (precision < 0 or method != "common"):
        env.check_size(abs(precision), env.limits.bits, "digits of a number")


def _tojson(
    env: LimitedSandbox, value: Any, ascii: Any = False, indent: Any = None, separators: Any = None, **more: Any
) -> None:
    """Measure what many values become, each of them indented or separated, piece by piece before it is made."""
    widths = [each if isinstance(each, int) else env._length(each) for each in _flat((indent, separators))]
    env.check_size(max(widths, default=0), 1000, "characters of indent")
    if max(widths, default=0) * env._length(value) > env.limits.string:
        env.joined_output(json.JSONEncoder(indent=indent, separators=separators).iterencode(value))


def _filter_join(env: LimitedSandbox, values: Any = (), d: Any = "", *more: Any, **named: Any) -> None:
    _join(env, d, values)


def _elements(env: LimitedSandbox, values: Any = (), *more: Any, **named: Any) -> None:
    """Count the characters of a text as the elements of the list that a filter makes of it."""
    if isinstance(values, (str, bytes)):
        env.check_size(len(values), env.limits.items, "items")
        env.tick(len(values) // 2)


def _sum(env: LimitedSandbox, values: Any = (), attribute: Any = None, start: Any = 0, **more: Any) -> None:
    """Count the elements that are copied when lists are added up, each time all so far."""
    size = 0
    for value in values if isinstance(start, (list, tuple)) else ():
        size += env._sizes.measure(value, env.limits.items)[0] if type(value) in HOLDERS else 0
        env.tick(size // _COPIES_PER_STEP)


def check_depth(tree: nodes.Node, most: int) -> None:
    """Raise OverLimit for a syntax tree deeper than `most`, or with a very long integer. Does not recurse."""
    level: list[nodes.Node] = [tree]
    depth = 0
    while level:
        depth += 1
        if depth > most:
            raise OverLimit(f"the template is nested deeper than {most} levels")
        for node in level:
            if isinstance(node, nodes.Const) and isinstance(node.value, int) and node.value.bit_length() > _MOST_BITS:
                raise OverLimit(f"the template holds a number of more than {_MOST_BITS:,} bits")
        level = [child for node in level for child in node.iter_child_nodes()]


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise OverLimit(f"the template uses `{name}`, which returns a different text each time")

    return refuse


def limited(limits: SandboxLimits) -> LimitedSandbox:
    """Return a new environment like `environment.sandbox`, with counters for `limits`."""
    env = sandbox(LimitedSandbox)
    assert isinstance(env, LimitedSandbox)
    env.limits, env.optimized, env.concat = limits, False, env.joined_output  # type: ignore[method-assign]
    env.filters.update(_checked_filters(env))
    env.tests.update({name: _weighed_test(env, cast(Callable[..., Any], test)) for name, test in env.tests.items()})
    env.filters["random"] = _refused("random")
    env.globals.update(range=_limited_range(limits), lipsum=_refused("lipsum"), namespace=_counted_namespace(env))
    return env


def _counted_namespace(env: LimitedSandbox) -> type[TemplateNamespace]:
    """Return a `namespace` class that counts steps when printed: namespaces can be nested, and they change."""

    class Counted(TemplateNamespace):
        def __repr__(self) -> str:
            env.tick(_CONTAINERS_PER_STEP)
            return super().__repr__()

    Counted.__module__, Counted.__qualname__ = TemplateNamespace.__module__, TemplateNamespace.__qualname__
    return Counted


def _limited_range(limits: SandboxLimits) -> Callable[..., range]:
    def bounded_range(*bounds: int) -> range:
        numbers = range(*bounds)
        if (numbers.stop - numbers.start) // numbers.step > limits.range:
            raise OverLimit(f"the template counts to more than {limits.range:,}")
        return numbers

    return bounded_range


def compile_limited(text: str, limits: SandboxLimits) -> jinja2.Template:
    """Compile `text`; raises OverLimit, jinja2.TemplateSyntaxError, RecursionError or MemoryError."""
    if len(text) > limits.source:
        raise OverLimit(f"the template is longer than {limits.source:,} characters")
    return limited(limits).from_string(text)
