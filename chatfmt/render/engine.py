"""Choose the engine that renders a template, and make it ready.

There are two engines and one meaning. The **Jinja engine** (`jinja_renderer`) renders each conversation by itself; it
defines every text and every error. The **traced engine** (`trace.renderer`) is faster: it runs Jinja once per shape of
conversation and replays the result over whole columns, after Jinja has confirmed it. `choose_engine` decides between
them, in this order:

1. `--engine jinja` selects the Jinja engine.
2. `--continue-final` needs Jinja, which finds where the final message ends.
3. In all other cases, the traced engine; it hands rows that it cannot replay to Jinja. With `--engine trace` such
   rows are errors.

Independently of the engine, an untrusted template (any that does not come with chatfmt) runs in a sandbox process:
there, `sandbox.renderer` takes the place of the Jinja engine, and templates are traced there as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from msgspec import Struct

from ..errors import TemplateError, UnknownName, UsageError
from ..json_columns import encode_conversations, json_array
from ..rendering import ConversationBatch, Renderer
from .jinja.determinism import random_names
from .jinja_renderer import JinjaRenderer
from .options import ENGINES, RenderOptions
from .sandbox.limits import FOR_ROWS, FOR_SAMPLES, SandboxLimits
from .sandbox.renderer import Isolation, SandboxRenderer
from .sandbox.sessions import SandboxSessions
from .single import TemplateRenderer
from .template.chat_template import TRUSTED, ChatTemplate
from .trace.renderer import TracedRenderer, Tracer
from .trace.tracer import trace
from .types import CONTEXT_NAMES, Moment

DEFAULTS = RenderOptions()


class EngineChoice(Struct, frozen=True):
    """An engine and the reason for it, as `--dry-run` and the manifest show them."""

    engine: Literal["trace", "jinja"]
    reason: str


def choose_engine(options: RenderOptions) -> EngineChoice:
    """Return the engine for a run with these options."""
    if options.engine == "jinja":
        return EngineChoice("jinja", "asked for with `--engine jinja`")
    if options.continue_final:
        return EngineChoice("jinja", "the end of the final message is found by Jinja")
    if options.engine == "trace":
        return EngineChoice("trace", "asked for with `--engine trace`")
    return EngineChoice("trace", "rows of a shape that was traced are replayed, Jinja renders the rest")


def compile(template: ChatTemplate, options: RenderOptions = DEFAULTS, isolation: Isolation = "off") -> Renderer:
    """Return a renderer of the template.

    Raises TemplateError if the template does not compile or uses randomness, UsageError for options that no render
    accepts or that exclude each other.
    """
    check_options(options)
    check_reproducible(template)
    choice = choose_engine(options)
    if needs_sandbox(template, isolation):
        sandbox = SandboxRenderer(template, options, isolation=isolation)
        if choice.engine != "trace":
            return sandbox
        traced = TracedRenderer(template, options, sandbox, tracer=sandbox.trace)
        sandbox.count_rows = partial(getattr, traced.stats, "rows")
        return traced
    template.check()
    jinja = JinjaRenderer(template, options)
    if choice.engine == "trace":
        return TracedRenderer(template, options, jinja)
    if options.engine == "trace":
        raise UsageError(f"`--engine trace` cannot render this: {choice.reason}", hint="leave `--engine` out")
    return jinja


def render_traced(
    template: ChatTemplate,
    messages: Any,
    tools: Any,
    documents: Any,
    generation_prompt: bool,
    continue_final: bool | str,
    variables: Mapping[str, Any],
    date: Moment,
) -> str:
    """Return the text of one conversation from the traced engine; see `ChatTemplate.render`."""
    options = RenderOptions(generation_prompt, continue_final, variables, date, engine="trace")
    columns = [None if value is None else json_array([value]) for value in (tools, documents)]
    rendered = compile(template, options)(ConversationBatch(encode_conversations([messages]), *columns))
    return str(rendered.text[0].as_py())


def check_options(options: RenderOptions) -> None:
    """Raise UsageError for options that no render accepts."""
    if options.engine not in ENGINES:
        raise UnknownName.of("engine", options.engine, ENGINES)
    if options.generation_prompt and options.continue_final:
        hint = "leave one out: the prompt starts a new answer, the other option continues the last one"
        raise UsageError("`--generation-prompt` and `--continue-final` exclude each other", hint=hint)
    for name in CONTEXT_NAMES:
        if name in options.variables:
            message = f"`{name}` cannot be set as a template variable: it comes from the data"
            raise UsageError(message, hint="use another name")


def check_reproducible(template: ChatTemplate) -> None:
    """Raise TemplateError for a template that uses randomness, so that its text differs from run to run."""
    if names := [name for text in template.texts for name in random_names(text)]:
        message = f"the template `{template.name}` uses `{names[0]}`, so its output differs from run to run"
        raise TemplateError(message, hint="remove it in a copy of the template", code="template.unprintable")


def needs_sandbox(template: ChatTemplate, isolation: Isolation) -> bool:
    """Return whether the template is untrusted and must run in a sandbox process."""
    return isolation != "off" and template.origin not in TRUSTED


def sandbox_sessions(
    template: ChatTemplate, isolation: Isolation, renderer: Renderer | None = None, limits: SandboxLimits = FOR_ROWS
) -> SandboxSessions | None:
    """Return the sandbox in which a `TemplateRenderer` renders this template; None for a template that needs none.

    The process of `renderer` is shared if its output is the same.
    """
    if not needs_sandbox(template, isolation):
        return None
    inner = renderer.fallback if isinstance(renderer, TracedRenderer) else renderer
    return SandboxSessions(template, isolation, inner if isinstance(inner, SandboxRenderer) else None, limits)


def template_renderer(
    template: ChatTemplate, options: RenderOptions, isolation: Isolation, renderer: Renderer | None = None
) -> TemplateRenderer:
    """Return what renders conversations one by one, in `sandbox_sessions` if the template needs a sandbox.

    They are rows of the data with the `renderer` of these, else samples.
    """
    limits = FOR_SAMPLES if renderer is None else FOR_ROWS
    return TemplateRenderer(template, options, sandbox_sessions(template, isolation, renderer, limits))


def tracer_of(template: ChatTemplate, options: RenderOptions) -> Tracer:
    """Return what traces a template for samples: `tracer.trace`, in a sandbox process if the template needs one."""
    return SandboxRenderer(template, options, limits=FOR_SAMPLES).trace if needs_sandbox(template, "auto") else trace


def isolation_level(renderer: Renderer) -> str:
    """Return the isolation in force (one of `seccomp.LEVELS`); empty if the template runs in this process."""
    inner = renderer.fallback if isinstance(renderer, TracedRenderer) else renderer
    return inner.level if isinstance(inner, SandboxRenderer) else ""
