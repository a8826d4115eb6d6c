"""Compare templates on the conversations of a recipe, and show the programs that the traced engine compiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ... import sources
from ...recipe import Recipe
from ...render import RenderOptions, sandbox_sessions, tracer_of
from ...render.inspection.diff import Difference, compare
from ...render.inspection.sample_conversations import usual_conversations
from ...render.masks.masker import to_chats
from ...render.single import Chat
from ...render.template.chat_template import ChatTemplate
from ...render.trace.program import Untraceable, describe
from ...render.trace.tracer import Inputs
from ...views.batch import RenderableBatch, whole_conversations
from ..conversion.stages import Conversion
from ..planning.jobs import render_options
from ..planning.scratch import Scratch
from ..planning.source_plan import plan_source


def conversations(recipe: Recipe, scratch: Scratch) -> Iterator[Chat]:
    """Yield the conversations of the sources of a recipe, transformed but not rendered, each with its tools."""
    for spec in recipe.read_apart:
        source = plan_source(recipe, spec, None, scratch)
        conversion = Conversion(source.job)
        for split in source.inputs:
            for batch in sources.read(split, columns=source.job.read, skip=source.job.skip):
                rows = RenderableBatch(conversion.conversations(batch, split.shown), None)
                chats = to_chats(rows.with_messages(whole_conversations(rows)))
                yield from (chat for chat in chats if chat is not None)


def compare_templates(recipe: Recipe, first: ChatTemplate, second: ChatTemplate, scratch: Scratch) -> Difference:
    """Compare how two templates render the conversations of a recipe."""
    sandbox = partial(sandbox_sessions, isolation=recipe.template_isolation)
    return compare(first, second, conversations(recipe, scratch), render_options(recipe, None), sandbox=sandbox)


def compile_programs(template: ChatTemplate, options: RenderOptions) -> list[tuple[str, str]]:
    """Return the roles of a few typical conversations, each with its traced program or why there is none."""
    programs, trace = [], tracer_of(template, options)
    for chat in usual_conversations():
        variables = {**template.special_tokens, **options.variables}
        inputs = Inputs(chat.messages, chat.tools, None, options.generation_prompt, variables, options.date)
        program = trace(template.choose(chat.tools), inputs, deep=True)
        roles = " ".join(str(turn["role"]) for turn in chat.messages) + (" with tools" if chat.tools else "")
        programs.append((roles, program.reason if isinstance(program, Untraceable) else describe(program)))
    return programs
