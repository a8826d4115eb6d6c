"""What the user should hear before the first row: what is left out, what is guessed, what has no effect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...errors import UnknownName
from ..conversion.kept_columns import kept_notes

if TYPE_CHECKING:
    from ...dialects import Detection
    from ...recipe import Recipe
    from ...render.template.chat_template import ChatTemplate
    from ..conversion.job import Job

ONE_SIDED = frozenset({"text", "messages", "prompt", "prompt-completion", "segments", "tokens"})
"""The views that take one conversation of a row."""
COMPLETE = frozenset({"text", "segments"})
"""The types of data sets whose rows are text that a template does not change."""
SHOWN = 70
"""Characters of a template's own text that a note shows."""
BESIDE = {"preference": "rejected", "unpaired-preference": "label", "stepwise": "labels"}
"""What the rows of a data set type hold beside one conversation."""


def of_job(job: Job, detection: Detection) -> Iterator[str]:
    """What there is to say of how rows are read and what is made of them."""
    yield from kept_notes(job, detection)
    yield from detection.left
    if job.template is not None and detection.type in COMPLETE:
        yield f"the rows are text that is complete as it is: the template `{job.template.name}` changes nothing in them"
    beside = BESIDE.get(detection.type)
    if beside is not None and job.view in ONE_SIDED:
        yield f"the rows are of type {detection.type}, and `--to {job.view}` leaves out their `{beside}`"


def of_system(jobs: Iterable[tuple[Job, Detection]]) -> Iterator[str]:
    """What there is to say of the system message that the one template of all jobs puts where a row has none."""
    asked = [job for job, detection in jobs if detection.type not in COMPLETE and "system" not in job.transforms]
    if asked and (said := system_of(asked[0])):
        yield f"rows without a system message get one of the template's own, `{said}`: --system TEXT gives another"


def of_template(template: ChatTemplate | None, recipe: Recipe) -> Iterator[str]:
    """What there is to say of the template and what it is given."""
    if template is None:
        return
    if template.reads_date:
        yield f"the template reads the date and is shown {recipe.date}: choose another day with --date"
    words = dict.fromkeys(word for text in template.texts for word in re.findall(r"\w+", text))
    for name in recipe.var:
        if name not in words:
            meant = UnknownName.of("variable", name, words).hint
            yield f"the template reads no variable `{name}`" + (f": {meant}" if meant.startswith("did you") else "")


def system_of(job: Job) -> str:
    """The first words of the system message that the template puts where a row has none; empty for none."""
    if job.template is None:
        return ""
    from ...render import sessions_of
    from ...render.inspection.probe import stand_in_system
    from ...render.single import TemplateRenderer

    voice = TemplateRenderer(job.template, job.options, sessions_of(job.template, job.isolation))
    said = " ".join(stand_in_system(voice).split())
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
