"""The fingerprint of a run: two runs with the same one write the same bytes."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec.structs import asdict

from ... import __version__, tokens
from ...dialects import Columns, Detection
from ...manifest import SEMANTICS, fingerprint
from ...recipe import Recipe
from ...render.template.chat_template import ChatTemplate
from ...validation import to_plain
from ..conversion.job import Job
from ..plugins import used_packages
from .target import Target

RUN_ONLY = {"about", "workers", "max_bad", "spool_limit"}
"""Keys of the recipe that change no byte of a shard."""


def run_fingerprint(
    recipe: Recipe,
    jobs: Sequence[tuple[Job, Detection]],
    template: ChatTemplate | None,
    files: Sequence[Mapping[str, Any]],
    target: Target,
) -> str:
    """Hash all that can change a byte of the output: input, recipe, template, versions; no paths, no times."""
    packages = used_packages(recipe, [name for job, _ in jobs for name in (job.dialect, job.view)])
    return fingerprint(
        {
            **({"plugins": packages} if packages else {}),
            "chatfmt": __version__,
            "semantics": SEMANTICS,
            "recipe": {**content_keys(recipe), "template": "", "tokens_from": "", "tokenizer": ""},
            "files": [{**file, "file": Path(file["file"]).name} for file in files],
            "columns": [[job.dialect, job.view, _to_plain(detection.columns)] for job, detection in jobs],
            "template": template_identity(template),
            "tokenizer": "" if recipe.tokenizer is None else tokens.content(recipe.tokenizer),
            "format": [target.format, target.compression, target.is_file],
            "pyarrow": pa.__version__ if target.format == "parquet" else "",
            "python": platform.python_version_tuple()[:2],
        }
    )


def job_key(
    recipe: Recipe, detection: Detection, view: str, template: ChatTemplate | None, media: Sequence[str], *, nulls: bool
) -> str:
    """Return the key of a job: jobs of one process that differ in anything have different keys.

    The sources are not part of it: a recipe may have many, and a job knows nothing of its own.
    """
    read = [detection.dialect, detection.type, _to_plain(detection.columns), view, list(media), nulls]
    keys = {key: to_plain(value) for key, value in vars(recipe).items() if key not in {*RUN_ONLY, "source"}}
    return fingerprint({"recipe": keys, "read": read, "template": template_identity(template)})


def content_keys(recipe: Recipe) -> dict[str, Any]:
    """Return the keys of a recipe that can change a byte of a shard, as plain data."""
    values = {key: value for key, value in recipe.plain().items() if key not in RUN_ONLY}
    return {**values, "source": [{**spec, "source": ""} for spec in values["source"]]}


def template_identity(template: ChatTemplate | None) -> list[Any] | None:
    """Return plain data that identifies a template by its content, whatever its name."""
    return None if template is None else [template.sha256, dict(template.special_tokens)]


def _to_plain(columns: Columns) -> dict[str, Any]:
    """Return the columns as plain data."""
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in asdict(columns).items()}
