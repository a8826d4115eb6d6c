"""Trainers: what `--for` sets, and what `chatfmt loader` prints, one entry each in TRAINERS.

To add one, write a module with a dictionary `TRAINERS`, and add it to the sum below. An entry says for each type of
data which view the trainer reads, which other keys of the recipe it needs, and which code was read to know that; its
`loader` returns the script, configuration or command line that loads an `Output`. If the trainer needs columns that no
view has, add a view. Then add its rows to `tests/trainers/`, which hand the files to the trainer's own code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..errors import UnknownName, UsageError
from ..schema import IgnoredWeights
from . import (
    axolotl,
    litgpt,
    llama_factory,
    mlx_lm,
    ms_swift,
    nemo_rl,
    open_instruct,
    openai,
    openrlhf,
    torchtune,
    trl,
    unsloth,
    verl,
)
from .trainer import TEXT_INSTEAD, UNRENDERED, Output, Trainer, listed, unread_column

TRAINERS: dict[str, Trainer] = {
    **trl.TRAINERS, **unsloth.TRAINERS, **axolotl.TRAINERS, **llama_factory.TRAINERS, **ms_swift.TRAINERS,
    **torchtune.TRAINERS, **open_instruct.TRAINERS, **verl.TRAINERS, **nemo_rl.TRAINERS, **openrlhf.TRAINERS,
    **mlx_lm.TRAINERS, **litgpt.TRAINERS, **openai.TRAINERS,
}  # fmt: skip
"""The trainers by name, in the order of the help."""


def find(name: str) -> Trainer:
    """Return the trainer of that name; raises UnknownName with the nearest one."""
    if name not in TRAINERS:
        raise UnknownName.of("trainer", name, TRAINERS)
    return TRAINERS[name]


def settings(name: str, *, to: str, rendered: bool) -> Mapping[str, Any]:
    """Return the keys of a recipe that `--for NAME` sets, the view aside.

    `to` is the view that the user named, `rendered` whether there is a template.
    """
    trainer = find(name)
    if to.startswith("rlvr"):  # the ground truth may be in any column
        return {**trainer.settings, **trainer.messages, "keep": ["all"]}
    if to == "tokens":  # no trainer adds tokens to them
        return {**trainer.settings, "end": "eos"}
    is_text = rendered and to not in UNRENDERED and trainer.reads_text
    return {**trainer.settings, **(trainer.text if is_text else trainer.messages)}


def choose_view(name: str, to: str, data_type: str, *, rendered: bool, media: Sequence[str] = ()) -> str:
    """Return the view that `--for NAME` writes for data of a type, or `to` if the user named a view.

    `media` are the columns of media of the rows.

    Raises UsageError if the trainer cannot read that view, that type of data or these media, and names one that can.
    """
    trainer = find(name)
    if unread := [column for column in media if column not in trainer.media]:
        hint = _who_takes(data_type, media)
        raise UsageError(f"`--for {name}` does not train on {unread[0]}", hint=hint)
    is_text = not trainer.views or data_type in trainer.rendered.keys() - trainer.views.keys()
    if is_text and not rendered and to in ("auto", trainer.rendered.get(data_type)):
        what = f"{data_type} data as text alone" if trainer.views else "nothing but text"
        raise UsageError(f"`--for {name}` needs a template: the trainer reads {what}", hint="-t MODEL, or -t chatml")
    if to != "auto":
        check_rendering(name, to, rendered=rendered)
        if to not in trainer.readable:
            reads = listed(f"`{view}`" for view in trainer.readable)
            raise UsageError(f"`--for {name}` does not read `--to {to}`, only {reads}", hint="leave out --to")
        return to
    views = {**trainer.views, **(trainer.rendered if rendered else {})}
    if data_type not in views:
        hint = _who_takes(data_type)
        if "unpaired-preference" in views and data_type == "language-modeling":
            hint = f"--map label=COLUMN or --label \"rating == 'good'\" says which answers are good; {hint}"
        raise UsageError(
            f"`--for {name}` needs data of type {listed(views)}, and these rows are of type {data_type}", hint=hint
        )
    check_rendering(name, views[data_type], rendered=rendered)
    return views[data_type]


def _who_takes(data_type: str, media: Sequence[str] = ()) -> str:
    """Return a hint that names trainers for data of a type with these media."""
    fitting = (name for name, one in TRAINERS.items() if data_type in one.views and {*media} <= {*one.media})
    named = [f"`--for {name}`" for name in fitting]
    return f"{listed(named[:3])} takes them" if named else "leave out --for"


def check_rendering(name: str, view: str, *, rendered: bool) -> None:
    """Raise UsageError if a template would render a view that the trainer of that name renders itself."""
    trainer = find(name)
    if rendered and view not in UNRENDERED and (not trainer.reads_text or view in trainer.renders):
        raise UsageError(f"`--for {name}` renders `{view}` itself, with the template of its model", hint="leave out -t")


def problem(trainer: Trainer, output: Output) -> str:
    """Return why files of a view that a trainer reads do not fit all the same; empty if they fit."""
    remedy = TEXT_INSTEAD if trainer.rendered else ""
    return unread_column(output, "documents", remedy=remedy) or trainer.problem(output)  # which none reads


def taken_column(trainer: Trainer, output: Output, own: Collection[str]) -> str:
    """Return the column of an output, other than its view's `own`, that a trainer would train on; empty if none is."""
    taken = {*trainer.takes} - {*own} if output.view != "tokens" else ()
    return next((name for name in output.columns if name in taken), "")


def unread_calls(name: str | None, view: str, *, rendered: bool) -> str:
    """Return what to type for rows with calls or results, which a trainer does not read in a view; empty if it does."""
    is_text = rendered and view not in UNRENDERED
    return "" if name is None or is_text else find(name).unread_calls.get(view, "")


def refused_codes(name: str | None, view: str) -> tuple[str, ...]:
    """Return the codes of the checks whose rows a trainer would change or leave out in a view."""
    return () if name is None else find(name).refuses.get(view, ())


def ignored_weights(trainer: Trainer | None, view: str, transforms: Mapping[str, Any]) -> IgnoredWeights:
    """Return which weights of answers a trainer does not read in a view, which would train such answers in full.

    `fractions` are weights other than 0 and 1, `parts` those and `train_detail`, which axolotl alone reads.
    A weight that is 0 or 1 is in the labels or segments, or under a key that the trainer reads. Where a row is trained
    on its last answer alone, the weights of the others say nothing.
    """
    if trainer is None or view in ("tokens", "segments", "prompt", "stepwise") or view.startswith("rlvr"):
        return "none"
    if view in ("messages", "openai") and "weights" in transforms:
        return "fractions" if transforms["weights"] == "train" else "parts"
    return "last" if view in ONE_ANSWER or (view == "messages" and trainer.splits_turns) else "all"


ONE_ANSWER = (
    "prompt-completion", "instruction", "preference", "unpaired-preference", "preference-conversations",
    "preference-messages", "rejected-response", "unpaired-messages", "openai-preference", "ranked-completions",
)  # fmt: skip
"""The views with a single answer to train on, or a pair of them."""
