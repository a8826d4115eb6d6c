"""The whole conversion: plan tasks, run each one, write the manifest.

SOURCE ──plan──▶ Task, Task, … ──executor──▶ Shard, Shard, … ──▶ manifest.json (written last)

Names are imported on first use: a worker needs neither the recipe nor the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from ..executors import cores
    from .converter import Converter
    from .hub_upload import Pushed, Repository, push
    from .job_array import check_place, commit, find_plan, published, run_part, write_plan
    from .planning.plan import Plan, plan
    from .planning.scratch import Scratch, scratch_for
    from .planning.target import target_of
    from .running.resuming import count_kept
    from .running.run import convert, run_plans
    from .running.stdin_stdout import is_piped, pipe
    from .running.summary import Summary

__getattr__, __all__ = attach(
    __name__,
    {
        "..executors": ("cores",),
        ".converter": ("Converter",),
        ".job_array": ("check_place", "commit", "find_plan", "published", "run_part", "write_plan"),
        ".planning.plan": ("Plan", "plan"),
        ".planning.scratch": ("Scratch", "scratch_for"),
        ".planning.target": ("target_of",),
        ".hub_upload": ("Pushed", "Repository", "push"),
        ".running.resuming": ("count_kept",),
        ".running.run": ("convert", "run_plans"),
        ".running.stdin_stdout": ("is_piped", "pipe"),
        ".running.summary": ("Summary",),
    },
)
