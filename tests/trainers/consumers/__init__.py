"""Each trainer's own loading code, run on files that chatfmt wrote, in a process of its own.

A module here is named after a package and has `rows(task)`, which hands the files of one Task to that package and
returns what it would train on. `python -m tests.trainers.consumers NAME TASKS RESULTS` runs it on a list of tasks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

ROOT = Path(__file__).parents[3]


class Task(TypedDict):
    """One conversion to hand to a trainer."""

    trainer: str
    """The name of `--for`."""
    folder: str
    """What chatfmt wrote."""
    loader: str
    """What `chatfmt loader` printed."""
    model: str
    """The folder of the model and its tokenizer."""


class Sequence(TypedDict):
    """Tokens as a model gets them; `trained` says for each whether it counts in the loss, None if all do."""

    ids: list[int]
    trained: list[bool] | None


class Result(TypedDict):
    """What a trainer made of one task: `rows` of Sequences or of conversations, or the error that it raised."""

    rows: list[Any]
    warnings: list[str]
    error: str


def consume(name: str, tasks: list[Task], folder: Path) -> list[Result]:
    """Return what the package of that name makes of the tasks; its output and caches go to `folder`."""
    requests, results = folder / "tasks.json", folder / "results.json"
    requests.write_text(json.dumps(tasks), encoding="utf-8")
    command = [sys.executable, "-m", f"{__name__}", name, str(requests), str(results)]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-4000:]
    found: list[Result] = json.loads(results.read_text(encoding="utf-8"))
    return found
