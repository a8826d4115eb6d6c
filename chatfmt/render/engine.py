"""The engine that renders a column of conversations with a template and options, chosen and made ready."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from msgspec import Struct

from ..errors import TemplateError, UnknownName, UsageError
from .jinja.determinism import chance
from .jinja_renderer import JinjaRenderer
from .options import ENGINES, Renderer, RenderOptions
from .sandbox.process import prestarted_process
from .sandbox.renderer import Isolation, SandboxRenderer
from .sandbox.sessions import SandboxSessions
from .template.chat_template import ChatTemplate
from .trace.renderer import TracedRenderer
from .types import CONTEXT_NAMES

DEFAULTS = RenderOptions()


class Choice(Struct, frozen=True):
    """An engine and why it was chosen."""

    engine: Literal["trace", "jinja"]
    reason: str


def choose_engine(template: ChatTemplate, options: RenderOptions) -> Choice:
    """The engine for a template and options, the one decision there is."""
    if options.engine == "jinja":
        return Choice("jinja", "asked for with `--engine jinja`")
    if options.continue_final:
        return Choice("jinja", "the end of the final message is found by Jinja")
    if options.engine == "trace":
        return Choice("trace", "asked for with `--engine trace`")
    return Choice("trace", "rows of a shape that was traced are replayed, Jinja renders the rest")


def needs_sandbox(template: ChatTemplate, isolation: Isolation) -> bool:
    """Whether a template runs behind the locked door: it is a stranger's, and the user did not say `off`."""
    return isolation != "off" and template.origin not in ("built-in", "plain")


def prestarted_sandbox(template: ChatTemplate, isolation: Isolation) -> AbstractContextManager[None]:
    """Start the sandbox process of the template now, if it needs one, for the first renderer inside the block."""
    return prestarted_process() if needs_sandbox(template, isolation) else nullcontext()


def sessions_of(template: ChatTemplate, isolation: Isolation, engine: Renderer | None = None) -> SandboxSessions | None:
    """Where a `TemplateRenderer` of the template speaks: behind the locked door, or in this process (None).

    It shares the process of the `engine` that renders the template, where that gives the same texts.
    """
    if not needs_sandbox(template, isolation):
        return None
    inner = engine.fallback if isinstance(engine, TracedRenderer) else engine
    return SandboxSessions(template, isolation, inner if isinstance(inner, SandboxRenderer) else None)


def compile(template: ChatTemplate, options: RenderOptions = DEFAULTS, isolation: Isolation = "off") -> Renderer:
    """The renderer of a template, as `choose_engine` says; a stranger's template runs behind the locked door.

    Raises TemplateError where the template does not compile or draws by chance, UsageError for options that exclude
    each other.
    """
    check_options(options)
    check_chance(template)
    choice = choose_engine(template, options)
    if needs_sandbox(template, isolation):
        return _behind_the_door(template, options, choice, isolation)
    template.check()
    plain = JinjaRenderer(template, options, choice.reason)
    if choice.engine == "trace":
        return TracedRenderer(template, options, plain, reason=choice.reason)
    if options.engine == "trace":
        raise UsageError(f"`--engine trace` cannot render this: {choice.reason}", hint="leave `--engine` out")
    return plain


def level_of(renderer: Renderer) -> str:
    """How well the process of a stranger's template is locked (`cage.LEVELS`); empty where it runs in this process."""
    inner = renderer.fallback if isinstance(renderer, TracedRenderer) else renderer
    return inner.level if isinstance(inner, SandboxRenderer) else ""


def _behind_the_door(template: ChatTemplate, options: RenderOptions, choice: Choice, isolation: Isolation) -> Renderer:
    behind = SandboxRenderer(template, options, isolation=isolation, reason=choice.reason)
    if choice.engine != "trace":
        return behind
    return TracedRenderer(template, options, behind, tracer=behind.trace, reason=choice.reason)


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


def check_chance(template: ChatTemplate) -> None:
    """Raise TemplateError for a template whose text differs from run to run by design."""
    if drawn := [name for text in template.texts for name in chance(text)]:
        message = f"the template `{template.name}` draws by chance (`{drawn[0]}`), so no run gives the same text twice"
        raise TemplateError(message, hint="take that out of a copy of it", code="template.unprintable")
