"""The whole conversion: plan tasks, run each one, write the manifest.

SOURCE ──plan──▶ Task, Task, … ──executor──▶ Shard, Shard, … ──▶ manifest.json (written last)
"""

from __future__ import annotations

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
