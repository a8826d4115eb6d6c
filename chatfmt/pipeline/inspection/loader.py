"""The text that loads a finished conversion into a trainer, or what to type if the trainer cannot read it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ... import trainers, views
from ...dialects import DIALECTS
from ...errors import ChatfmtError, UsageError
from ...manifest import Manifest, read_manifest
from ...recipe import KEYS, Recipe
from ...schema import MEDIA
from ...trainers import Output, Trainer
from ...validation import flag_of
from ..running.output import to_output
from .command import READING, flag_arguments, own_values
from .survey import Survey, survey

if TYPE_CHECKING:
    from ...render.single import TemplateRenderer


def loader_text(folder: Path, shown: str, trainer: str | None, model: str | None, max_steps: int | None) -> str:
    """Return the script, configuration or command that loads the files in a folder.

    Raises UsageError if the trainer cannot read them, with the command that makes files for it.
    """
    if folder.is_file():
        raise UsageError(f"`{shown}` is a file; only folders have a manifest", hint="convert with -o FOLDER/")
    manifest = read_manifest(folder)
    name = trainer or manifest.recipe.get("trainer")
    held = survey(folder)
    note = path_note(manifest, held.paths)
    place = str(folder.resolve()) if note else shown  # the script runs in another folder
    output = replace(
        to_output(manifest, place, held.columns), max_steps=max_steps, longest=held.longest, weighted=held.weighted
    )
    if name is None:
        raise UsageError(f"`{shown}` was not made for a trainer", hint=for_readers(output) or AGAIN)
    found = trainers.find(name)
    if unread := unread_media(output, found):
        problem = f"`{shown}` does not fit {name}, which does not train on {unread}"
        raise UsageError(problem, hint=for_readers(output))
    if output.view not in found.readable:
        check_type(manifest, name, output)
        reads = trainers.listed(f"`{view}`" for view in found.readable)
        problem = f"it holds the view `{output.view}`, and the trainer reads {reads}"
    elif output.format not in found.formats:
        problem = f"its format is {output.format}, and the trainer reads {trainers.listed(found.formats)}"
    else:
        problem = problem_of(found, output)
    if problem:
        is_new = (manifest.recipe.get("trainer"), output.view in found.readable) != (name, True)
        hint = convert_command(manifest, name, shown) if is_new else ""
        raise UsageError(f"`{shown}` does not fit {name}: {problem}", hint=hint)
    if model is not None:
        output = with_model(output, model, name, held)
    return note + found.loader(output)


def with_model(output: Output, model: str, name: str, held: Survey) -> Output:
    """Return the output with the model to train and, if its template is read, the tokens beside EOS that end a turn.

    Raises UsageError if the trainer would train other tokens of such rows than the template marks.
    """
    from ...render import ChatTemplate, RenderOptions, template_renderer
    from ...render.masks.turn_boundaries import stop_tokens

    output, trainer = replace(output, model=model), trainers.find(name)
    if output.is_text or not (is_by_turn(trainer, output) or output.view in trainer.names_stops):
        return output
    try:
        template = ChatTemplate.load(model)
        template.check()
    except ChatfmtError:
        return output
    renderer = template_renderer(template, RenderOptions(), Recipe(**output.recipe).template_isolation)
    if problem := template_problem(renderer, trainer, output, held):
        raise UsageError(
            f"`{output.path}` does not fit {name} with the template of `{model}`: {problem}",
            hint=f"convert with -t {shlex.quote(model)}" if trainer.rendered else "--for trl-sft reads them",
        )
    return replace(output, stops=stop_tokens(renderer))


def is_by_turn(trainer: Trainer, output: Output) -> bool:
    """Return whether the trainer renders the conversations of an output turn by turn."""
    return trainer.by_turn and output.view in ("messages", "prompt-completion", "preference")


def template_problem(renderer: TemplateRenderer, trainer: Trainer, output: Output, held: Survey) -> str:
    """Return why the trainer would train other tokens of an output than the template marks; empty if it does not."""
    from ...render.inspection.probe import calls_change_results, reprints_answers
    from ...render.masks.turn_boundaries import missing_stop

    if is_by_turn(trainer, output):
        return REPRINTED if reprints_answers(renderer, if_followed=held.has_earlier_answers) else ""
    if "tools" in output.columns and calls_change_results(renderer):
        return RESULTS
    return missing_stop(renderer)


REPRINTED = "it renders turn by turn, and the template prints an answer otherwise once turns follow or after its prompt"
RESULTS = "it would train on results of tools, which the template prints otherwise where there was no call"


def path_note(manifest: Manifest, names: Sequence[str]) -> str:
    """Return a comment on columns of media that are relative paths; empty without any."""
    files = [str(source["id"]) for source in manifest.sources if source.get("id")]
    root = Path(manifest.recipe.get("media_root") or Path(files[0]).parent)
    if not names or root == Path():
        return ""
    return f"# The {trainers.listed(names)} are paths below {root}: run this there, or convert with --embed-media.\n"


AGAIN = "no trainer reads it as it is: convert the source again with --for TRAINER, such as --for trl-sft"
"""The hint for a folder that no trainer reads."""


def for_readers(output: Output) -> str:
    """Return the flag with trainers that can read an output; empty if none can, as where columns were renamed."""
    found = readers(output)[:4]
    return f"--for {trainers.listed(found)}" if found else ""


def readers(output: Output) -> list[str]:
    """Return the trainers that can read an output as it is."""
    return [
        name
        for name, trainer in trainers.TRAINERS.items()
        if output.view in trainer.readable
        and output.format in trainer.formats
        and not (unread_media(output, trainer) or problem_of(trainer, output))
    ]


def unread_media(output: Output, trainer: Trainer) -> str:
    """Return the column of media that an output has and the trainer does not read; empty if there is none."""
    return next((name for name in MEDIA if name in output.columns and name not in trainer.media), "")


def check_type(manifest: Manifest, name: str, output: Output) -> None:
    """Raise UsageError if no conversion of the sources of a manifest can be read by the trainer of that name."""
    trainer = trainers.find(name)
    types = {DIALECTS[source["dialect"]].type for source in manifest.sources if source.get("dialect") in DIALECTS}
    if unfit := sorted(types - {*trainer.views, *trainer.rendered}):
        needed = trainers.listed({**trainer.views, **trainer.rendered})
        raise UsageError(
            f"`{output.path}` does not fit {name}, which needs data of type {needed}: it was made from "
            f"{trainers.listed(unfit)}",
            hint=f"`chatfmt loader {output.path}` reads it with {flag}" if (flag := for_readers(output)) else "",
        )


def problem_of(trainer: Trainer, output: Output) -> str:
    """Return why files of a view that a trainer reads do not fit all the same, as with `--rename`; empty if they do."""
    given = output.recipe.get("rename") or {}
    found = [name for name in given if name in views.VIEWS[output.view].columns]
    if found:
        return f"its column `{found[0]}` is named `{given[found[0]]}`"
    if taken := trainers.taken_column(trainer, output, views.VIEWS[output.view].columns):
        return f"it would train on the column `{taken}` too"
    ignored = trainers.ignored_weights(trainer, output.view, output.recipe.get("transforms") or {})
    if ignored in output.weighted:
        return "answers have weights that the trainer does not read, and it trains them in full"
    return trainers.problem(trainer, output)


CHOSEN = ("about", "source", "trainer", "to", "format", "rename", "compression", "bos", "end", "mask")
"""Keys that a trainer chooses anew."""
FLAGS = {**READING, "template": "-t"}
"""The flags of keys, where they are not made from the key."""


def convert_command(manifest: Manifest, trainer: str, out: str) -> str:
    """Return the command that converts the sources of a manifest for a trainer, with the user's other settings."""
    recipe = Recipe(**manifest.recipe)
    values = own_values(recipe)
    words = ["chatfmt", "convert", *(spec.source for spec in recipe.source)]
    for key in KEYS:
        if key in values and key not in CHOSEN:
            words += flag_arguments(FLAGS.get(key) or flag_of(key), values[key], key)
    masked = trainers.find(trainer).mask.split() if recipe.mask else []
    words += masked[:2] if recipe.tokenizer else masked
    return shlex.join([*words, "--for", trainer, "-o", out, "--overwrite"])
