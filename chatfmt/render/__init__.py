"""Conversations to text: a template, options, and the engine that renders a column of conversations with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import UnknownName, UsageError
from .environment import CONTEXT_NAMES
from .options import ENGINES, SPANS, Rendered, Renderer, RenderOptions
from .plain import JinjaRenderer
from .template import ChatTemplate

__all__ = [
    "ENGINES",
    "SPANS",
    "ChatTemplate",
    "Choice",
    "JinjaRenderer",
    "RenderOptions",
    "Rendered",
    "Renderer",
    "choose_engine",
    "compile",
]


DEFAULTS = RenderOptions()


@dataclass(frozen=True)
class Choice:
    """An engine and why it was chosen."""

    engine: Literal["trace", "jinja"]
    reason: str


def choose_engine(template: ChatTemplate, options: RenderOptions) -> Choice:
    """The engine for a template and options, the one decision there is."""
    if options.engine == "jinja":
        return Choice("jinja", "asked for with `--engine jinja`")
    if options.continue_final:
        return Choice("jinja", "`--continue-final` needs Jinja")
    return Choice("jinja", "the traced engine is not there yet")


def compile(template: ChatTemplate, options: RenderOptions = DEFAULTS) -> Renderer:
    """The renderer of a template.

    Raises TemplateError where the template does not compile, UsageError for options that exclude each other.
    """
    check_options(options)
    template.check()
    choice = choose_engine(template, options)
    if options.engine == "trace" and choice.engine != "trace":
        raise UsageError(f"`--engine trace` cannot render this: {choice.reason}", hint="leave `--engine` out")
    return JinjaRenderer(template, options, choice.reason)


def check_options(options: RenderOptions) -> None:
    """Raise UsageError for options that no render accepts."""
    if options.engine not in ENGINES:
        raise UnknownName.of("engine", options.engine, ENGINES)
    if options.generation_prompt and options.continue_final:
        hint = "leave one out: the prompt opens a new answer, the other goes on with the last one"
        raise UsageError("`--generation-prompt` and `--continue-final` exclude each other", hint=hint)
    for name in CONTEXT_NAMES:
        if name in options.variables:
            raise UsageError(f"`{name}` is no template variable: it comes from the data", hint="use another name")
