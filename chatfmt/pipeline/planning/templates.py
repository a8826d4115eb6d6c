"""The template of a recipe, and the special tokens that it reads."""

from __future__ import annotations

import json

from msgspec.structs import replace

from ... import render
from ...errors import InputError, UsageError
from ...recipe import Recipe, renders
from ...render.template.chat_template import GENERATION, ChatTemplate, special_tokens_of, with_tokens_of
from ...render.template.model_files import NO_TEMPLATE
from ...render.template.special_tokens import NAMED
from ..conversion.job import Job


def load_template(recipe: Recipe) -> ChatTemplate | None:
    """Load the template of a recipe; None if nothing is rendered.

    Raises UsageError for a special token that is not text, and for a template file whose EOS token has no value.
    """
    if not renders(recipe.template):
        return None
    for name in NAMED:
        if not isinstance(value := recipe.var.get(name, ""), str):
            text = json.dumps(value)
            raise UsageError(
                f"`{name}` is `{text}`, which is not text", hint=f"--var {name}='\"TOKEN\"', or leave it out"
            )
    template = load_or_fall_back(str(recipe.template), recipe.fallback_template)
    template = with_tokens_of(template, recipe.tokens_from)
    if lacks("eos_token", recipe, template):
        which, other = f"{SAID[template.origin]} does not define", recipe.tokens_from
        raise UsageError(
            f"the template `{template.name}` reads `eos_token`, which "
            + (which if other is None else f"{which}, nor does `{other}`"),
            hint="--var eos_token=TOKEN, or --tokens-from with the folder or Hub id of the model",
        )
    return template


SAID = {"file": "a .jinja file", "inline": "an inline template"}
"""The origins of templates that come without special tokens."""


def load_or_fall_back(name: str, fallback: str | None) -> ChatTemplate:
    """Return the template of that name, or the fallback if it is a model without any."""
    try:
        return ChatTemplate.load(name)
    except InputError as error:
        if fallback is None or error.code != NO_TEMPLATE:
            raise
        return replace(ChatTemplate.load(fallback), instead_of=name)


def token_sources(recipe: Recipe, template: ChatTemplate) -> dict[str, dict[str, str | None]]:
    """Return the special tokens that the template reads, their `value`s (None without) and where these are `from`."""
    given = {"--var": recipe.var, "the template": template.special_tokens}
    if recipe.tokens_from is not None:
        given = {"--var": recipe.var, recipe.tokens_from: special_tokens_of(recipe.tokens_from), **given}
    named = [name for name in NAMED if any(name in text for text in template.texts)]
    found: dict[str, dict[str, str | None]] = {name: {"value": None, "from": ""} for name in named}
    for origin, values in reversed(given.items()):
        found |= {name: {"value": values[name], "from": origin} for name in named if name in values}
    return found


def lacks(name: str, recipe: Recipe, template: ChatTemplate) -> bool:
    """Return whether a template file prints a special token that has no value: a file names none."""
    if template.origin not in SAID or name in {**template.special_tokens, **recipe.var}:
        return False
    if not any(name in text for text in template.texts):
        return False
    from ...render.inspection.probe import lacks_token

    options = render.RenderOptions(variables=recipe.var, date=recipe.date)
    return lacks_token(render.template_renderer(template, options, recipe.template_isolation), name)


def with_generation_tags(job: Job) -> Job:
    """Return the job with a template that has tags for the trained text, if spans are needed and it has none itself."""
    mask, template = job.mask, job.template
    if mask is None or template is None or all(map(GENERATION.search, template.texts)):
        return job
    from ...render.tagging.tagger import tag_template

    single = render.template_renderer(template, job.options, job.isolation)
    return replace(job, tagged_template=tag_template(single))
