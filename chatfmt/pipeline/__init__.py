"""The whole conversion: plan tasks, run each one, write the manifest.

SOURCE ──plan──▶ Task, Task, … ──executor──▶ Shard, Shard, … ──▶ manifest.json (written last)

Names are imported on first use: a worker needs neither the recipe nor the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from ..executors import cores as cores
    from .conversion.job import Job as Job
    from .conversion.job import Task as Task
    from .conversion.stages import Conversion as Conversion
    from .conversion.task import run_task as run_task
    from .converter import Converter as Converter
    from .hub_upload import Pushed as Pushed
    from .hub_upload import Repository as Repository
    from .hub_upload import push as push
    from .job_array import check_place as check_place
    from .job_array import commit as commit
    from .job_array import find_plan as find_plan
    from .job_array import published as published
    from .job_array import run_part as run_part
    from .job_array import write_plan as write_plan
    from .planning.plan import Plan as Plan
    from .planning.plan import plan as plan
    from .planning.scratch import Scratch as Scratch
    from .planning.scratch import scratch_for as scratch_for
    from .planning.source_plan import SourcePlan as SourcePlan
    from .planning.target import Target as Target
    from .planning.target import target_of as target_of
    from .running.resuming import count_kept as count_kept
    from .running.run import convert as convert
    from .running.run import run_plans as run_plans
    from .running.stdin_stdout import is_piped as is_piped
    from .running.stdin_stdout import pipe as pipe
    from .running.summary import Summary as Summary

__getattr__, __all__ = attach(
    __name__,
    {
        "..executors": ("cores",),
        ".conversion.job": ("Job", "Task"),
        ".conversion.stages": ("Conversion",),
        ".conversion.task": ("run_task",),
        ".converter": ("Converter",),
        ".job_array": ("check_place", "commit", "find_plan", "published", "run_part", "write_plan"),
        ".planning.plan": ("Plan", "plan"),
        ".planning.scratch": ("Scratch", "scratch_for"),
        ".planning.target": ("Target", "target_of"),
        ".planning.source_plan": ("SourcePlan",),
        ".hub_upload": ("Pushed", "Repository", "push"),
        ".running.resuming": ("count_kept",),
        ".running.run": ("convert", "run_plans"),
        ".running.stdin_stdout": ("is_piped", "pipe"),
        ".running.summary": ("Summary",),
    },
)
