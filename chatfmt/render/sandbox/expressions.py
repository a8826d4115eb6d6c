"""Expressions of `--where` and small templates of `--map`, evaluated in the sandbox of chat templates.

What chat templates may not do, expressions may not either: use randomness, print memory addresses, or use more than the
`SandboxLimits`. They run in this process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import jinja2
from jinja2 import Environment, nodes
from jinja2.defaults import DEFAULT_FILTERS, DEFAULT_TESTS
from jinja2.parser import Parser

from ...errors import RowError, UsageError, nearest
from ..jinja.determinism import cut_short, find_address, random_names, without_addresses
from .limits import LimitedSandbox, OverLimit, SandboxLimits, check_depth, limited

CompiledExpression = Callable[[Mapping[str, Any]], Any]


def expression(source: str) -> CompiledExpression:
    """Return a function that evaluates a Jinja expression (`--where`) on a row, a mapping from column names to values.

    A name or key that the row lacks is None. Source with `{{` or `{%` is a `text_expression`.
    Raises UsageError if the source does not compile; the function raises RowError, code `expr.error`.
    """
    if "{{" in source or "{%" in source:
        return text_expression(source)
    _check_source(source, "{{ " + source + " }}")
    environment = _environment()
    return _guarded(source, environment, _compile_value(environment, source))


def text_expression(source: str) -> CompiledExpression:
    """Return a function that renders a small template (`--map`) with a row.

    Nothing is trimmed; None and missing keys render as empty text. Raises as `expression` does.
    """
    _check_source(source, source)
    environment = _environment()
    environment.keep_trailing_newline, environment.trim_blocks, environment.lstrip_blocks = True, False, False
    environment.finalize = _printed
    try:
        template = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error(source, error, None) from error
    except (OverLimit, RecursionError, ValueError) as error:
        raise _too_much(source, error) from None
    return _guarded(source, environment, lambda row: template.render(dict(row)))


def _environment() -> LimitedSandbox:
    """Return the sandbox of expressions, in which `int` and `float` without a default fail for what is not a number."""
    environment = limited(SandboxLimits())
    environment.filters.update((name, _strict(environment.filters[name])) for name in ("int", "float"))
    return environment


def _strict(convert: Callable[..., Any]) -> Callable[..., Any]:
    def number(value: Any, *default: Any, **named: Any) -> Any:
        found = convert(value, *default, **named) if default or named else convert(value, None)
        if found is None:
            raise ValueError(f"`{value}` is not a number" if value or value == 0 else "there is no number")
        return found

    return number


def _check_source(source: str, template: str) -> None:
    if len(source) > SandboxLimits().source:
        message = f"the expression `{source[:40]}…` is longer than {SandboxLimits().source:,} characters"
        raise UsageError(message, hint="write a shorter one")
    if names := random_names(template):
        raise UsageError(
            f"the expression `{source}` uses `{names[0]}`, so that its value differs from run to run",
            hint="to sample rows: --fraction 0.1, to order them at random: --shuffle",
        )


def _printed(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode()  # beside bytes that are not UTF-8, text is bytes too
    return "" if value is None else value


def _guarded(source: str, environment: LimitedSandbox, evaluate: CompiledExpression) -> CompiledExpression:
    shown = cut_short(source)

    def value_of(row: Mapping[str, Any]) -> Any:
        environment.start_row()
        try:
            value = evaluate(row)
        except Exception as error:  # an expression may raise anything
            failure = RowError(
                f"the expression `{shown}` fails: {without_addresses(str(error)) or type(error).__name__}",
                code="expr.error",
                hint=_hint(error),
            )
            failure.costly = isinstance(error, OverLimit)
            raise failure from error
        if isinstance(value, str) and (printed := find_address(value, dict(row))):
            name = printed.partition(" at 0x")[0] + ">"
            message = f"the expression `{shown}` gives the memory address of `{name}`, which differs from run to run"
            raise RowError(message, code="expr.error", hint="name the value to print, such as `.content`")
        return value

    return value_of


def _hint(error: Exception) -> str:
    if isinstance(error, (OverLimit, RecursionError, MemoryError)):
        return "write an expression that does less, or --on-error skip leaves such rows out"
    if isinstance(error, ValueError) and str(error).endswith(" number"):
        return "--on-error skip leaves such rows out"
    kinds = set(re.findall(r"'(str|int|float)'", str(error)))
    if isinstance(error, TypeError) and "str" in kinds and len(kinds) > 1:
        return "the column is text, as all cells of a CSV are: `NAME|float` reads it as a number"
    return "a column that may be missing or of another type needs a test, such as `x is string and …`"


def _compile_value(environment: LimitedSandbox, source: str) -> CompiledExpression:
    template = _template_of(environment, source)

    def evaluate(row: Mapping[str, Any]) -> Any:
        context = template.new_context(dict(row))
        for _ in template.root_render_func(context):
            pass
        value = context.vars["result"]
        return None if isinstance(value, jinja2.Undefined) else value

    return evaluate


def _template_of(environment: LimitedSandbox, source: str) -> jinja2.Template:
    """Return a template that sets `result` to the value of the expression and prints nothing."""
    parser = None
    try:
        parser = Parser(environment, source, state="variable")
        value = parser.parse_expression()
        if not parser.stream.eos:
            parser.fail("something follows the expression")
        result = nodes.Assign(nodes.Name("result", "store"), value, lineno=1)
        tree = nodes.Template([result], lineno=1).set_environment(environment)
        check_depth(tree, environment.limits.depth)
        return environment.from_string(cast(nodes.Template, tree))
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error(source, error, _column(environment, source, parser)) from error
    except (OverLimit, RecursionError, ValueError) as error:
        raise _too_much(source, error) from None


def _too_much(source: str, error: Exception) -> UsageError:
    problem, hint = "is nested too deeply", "write it with fewer parentheses"
    if isinstance(error, ValueError) or "number" in str(error):
        problem, hint = "holds a number that is too long", "write a shorter one"
    return UsageError(f"the expression `{source[:40]}…` {problem}", hint=hint)


def _syntax_error(source: str, error: jinja2.TemplateSyntaxError, column: int | None) -> UsageError:
    where = "" if column is None else f" at character {column}"
    hint = _syntax_hint(source, str(error.message))
    return UsageError(f"the expression `{source}` does not parse{where}: {error.message}", hint=hint)


def _syntax_hint(source: str, problem: str) -> str:
    unknown = re.fullmatch(r"No (?:filter|test) named '(\w+)'\.", problem)
    if unknown and (close := nearest(unknown[1], {*DEFAULT_FILTERS, *DEFAULT_TESTS})):
        return f"did you mean `{close[0]}`?"
    if "{{" in source:
        return "write every `{{` with a `}}` after its expression, as in `{{ question }}`"
    if re.search(r"(?<![=!<>])=(?!=)", source):
        return "`==` compares: `lang == 'en'`"
    return "write it as inside the braces of a Jinja template: `score > 3 and row['my column'] == 'en'`"


def _column(environment: Environment, source: str, parser: Parser | None) -> int | None:
    """Return the index in `source` of the token at which the parser stopped; None if it is unknown."""
    try:
        raw = list(environment.lexer.tokeniter(source, None, state="variable"))
        unread = sum(1 for _ in parser.stream) if parser else 0
    except jinja2.TemplateSyntaxError:  # the lexer's message has the place
        return None
    starts, end = [], 0
    for _, kind, text in raw:
        starts += [] if kind == "whitespace" else [end]
        end += len(text)
    return starts[-unread] if 0 < unread <= len(starts) else end
