"""Refuse options for what the output does not have: tokens, rendered text, spans, bytes of media."""

from __future__ import annotations

from ... import trainers, views
from ...errors import UsageError
from ...recipe import Recipe, renders
from ...render.masks.masker import MaskOptions
from ...validation import flag_of
from ..conversion.job import Job
from .target import Target


def check_tokens(recipe: Recipe) -> None:
    """Raise UsageError for options about tokens without what they need, and for a tokenizer without a template."""
    view = views.VIEWS.get(recipe.to)
    if recipe.pack is not None and not (view is not None and view.is_tokenized):
        raise UsageError("`--pack` packs tokens", hint="--to tokens --tokenizer FILE")
    if recipe.pack is None and recipe.pack_strategy != "bfd":
        raise UsageError("`--pack-strategy` needs `--pack`", hint="--pack N")
    if recipe.max_tokens is None and recipe.over_length != "error":
        raise UsageError("`--over-length` needs `--max-tokens`", hint="--max-tokens N")
    if recipe.tokenizer is None and (recipe.max_tokens is not None or (view is not None and view.is_tokenized)):
        flag = "--max-tokens" if recipe.max_tokens is not None else f"--to {recipe.to}"
        raise UsageError(f"`{flag}` needs a tokenizer", hint="--tokenizer FILE, folder or Hub model id")
    if recipe.tokenizer is not None and not renders(recipe.template):
        raise UsageError("`--tokenizer` needs a template: tokens are counted in rendered text", hint="-t chatml")


def check_token_shards(recipe: Recipe, view: str | None) -> None:
    """Raise UsageError for `--tokens-per-shard` with rows whose tokens are not counted."""
    found = views.VIEWS.get(view or "")
    if recipe.tokens_per_shard and not (found and recipe.tokenizer and (found.is_tokenized or "text" in found.columns)):
        raise UsageError("`--tokens-per-shard` counts the tokens of texts", hint="-t chatml --tokenizer FILE --to text")


def check_rendered(recipe: Recipe) -> None:
    """Raise UsageError for options for rendered text without a template."""
    if renders(recipe.template):
        return
    if flag := text_option(recipe):
        by_trainer = recipe.trainer is not None and not trainers.find(recipe.trainer).reads_text
        hint = f"leave out {flag}: the trainer renders the rows and masks them itself" if by_trainer else "-t chatml"
        raise UsageError(f"`{flag}` applies to rendered text, and no template was given", hint=hint)
    if recipe.tokens_from is not None:
        raise UsageError("`--tokens-from` needs a template", hint="-t FILE.jinja")
    if recipe.control_tokens != "keep":
        text = "`--control-tokens` looks for the special tokens of a template, and none was given"
        raise UsageError(text, hint="-t chatml")
    if recipe.fallback_template is not None:
        text, hint = "`--fallback-template` is for a model without a chat template", "-t MODEL names the model"
        raise UsageError(text, hint=hint)


def text_option(recipe: Recipe) -> str:
    """Return the first flag for rendered text that the user gave, not the trainer; empty if there is none."""
    theirs = {} if recipe.trainer is None else trainers.settings(recipe.trainer, to=recipe.to, rendered=True)
    given = {key: getattr(recipe, key) for key in ("mask", "generation_prompt", "continue_final")}
    given |= {key: getattr(recipe, key) not in ("keep", theirs.get(key)) for key in ("bos", "end")}
    return next((flag_of(key) for key, value in given.items() if value), "")


def span_option(recipe: Recipe) -> str:
    """Return the first flag for spans that the user gave besides `--mask`; empty if there is none."""
    plain = {"mask_last": False, "train_reasoning": "generated", "train_roles": ("assistant",), "mask_stop_token": True}
    given = next((key for key, default in plain.items() if getattr(recipe, key) != default), "")
    return given and flag_of("no_" + given if given == "mask_stop_token" else given)


def check_view(recipe: Recipe, view: str) -> None:
    """Raise UsageError for options for rendered text with a view that has none, and for the reverse."""
    flag = text_option(recipe)
    if flag and view in trainers.UNRENDERED and not views.VIEWS[view].is_tokenized:
        raise UsageError(f"`{flag}` applies to rendered text, and `--to {view}` writes none", hint="leave it out")
    if recipe.media_tags and renders(recipe.template) and view not in trainers.UNRENDERED:
        raise UsageError(
            "`--media-tags` is about messages, and the template writes tags of its own", hint="leave it out"
        )
    if recipe.mask and not (views.VIEWS[view].takes_mask or views.VIEWS[view].needs_spans):
        raise UsageError(f"`--mask` adds no spans to `--to {view}`", hint="leave it out, or --to text")
    if (flag := span_option(recipe)) and mask_options(recipe, view) is None:
        writes = (
            "add --mask"
            if views.VIEWS[view].takes_mask
            else "spans need a template and --mask, --to segments or --to tokens"
        )
        raise UsageError(
            f"`{flag}` chooses the spans that are trained, and `--to {view}` writes none here", hint=writes
        )


def check_embedding(recipe: Recipe, job: Job, target: Target) -> None:
    """Raise UsageError for media whose bytes the target cannot hold."""
    if recipe.embed_media and job.media and target.format != "parquet":
        raise UsageError("`--embed-media` writes bytes, which JSON Lines cannot hold", hint="-o out/ or -o x.parquet")


def mask_options(recipe: Recipe, view: str) -> MaskOptions | None:
    """Return the options that select the text to train on, None if no spans are needed."""
    if not recipe.mask and not views.VIEWS[view].needs_spans:
        return None
    return MaskOptions(
        recipe.mask_stop_token, recipe.train_reasoning, recipe.mask_last, roles=tuple(recipe.train_roles)
    )
