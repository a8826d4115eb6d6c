"""The whole conversion: plan tasks, run each one, write the manifest.

SOURCE ──plan──▶ Task, Task, … ──executor──▶ Shard, Shard, … ──▶ manifest.json (written last)

Its names are imported when they are first used: a worker needs neither the recipe nor the plan.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..executors import cores
    from .array import commit, find_plan, run_part, write_plan
    from .conversion import Conversion
    from .converter import Converter
    from .job import Job, Task
    from .planning import Part, Plan, plan
    from .run import Summary, carry_out, convert, is_piped, pipe
    from .scratch import Scratch
    from .target import Target, target_of
    from .tasks import run_task

__all__ = [
    "Conversion", "Converter", "Job", "Part", "Plan", "Scratch", "Summary", "Target", "Task", "carry_out", "commit",
    "convert", "cores", "find_plan", "is_piped", "pipe", "plan", "run_part", "run_task", "target_of", "write_plan",
]  # fmt: skip

_HOMES = {
    "..executors": ("cores",),
    ".array": ("commit", "find_plan", "run_part", "write_plan"),
    ".conversion": ("Conversion",),
    ".converter": ("Converter",),
    ".job": ("Job", "Task"),
    ".planning": ("Part", "Plan", "plan"),
    ".run": ("Summary", "carry_out", "convert", "is_piped", "pipe"),
    ".scratch": ("Scratch",),
    ".target": ("Target", "target_of"),
    ".tasks": ("run_task",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `chatfmt.pipeline` has no attribute `{name}`")
    value = globals()[name] = getattr(import_module(_HOME[name], __name__), name)
    return value
