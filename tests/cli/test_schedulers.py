"""The part that a task of a job array runs, as each scheduler says it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from chatfmt.cli.schedulers import SCHEDULERS, to_part
from chatfmt.errors import UsageError


def slurm(number: int, first: int, last: int, count: int, step: int = 1) -> dict[str, str]:
    values = {"ID": number, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def sge(number: str, first: str, last: str, step: str) -> dict[str, str]:
    return {"SGE_TASK_ID": number, "SGE_TASK_FIRST": first, "SGE_TASK_LAST": last, "SGE_TASK_STEPSIZE": step}


def lsf(number: int, last: int, step: int = 1) -> dict[str, str]:
    return {"LSB_JOBINDEX": str(number), "LSB_JOBINDEX_END": str(last), "LSB_JOBINDEX_STEP": str(step)}


def srun(number: int, count: int) -> dict[str, str]:
    return {"SLURM_PROCID": str(number), "SLURM_NTASKS": str(count)}


ARRAYS: dict[str, tuple[str | None, list[Mapping[str, str]]]] = {
    "Slurm": (None, [slurm(number, 0, 3, 4) for number in range(4)]),
    "Slurm, from 5 by 2": (None, [slurm(number, 5, 9, 3, 2) for number in (5, 7, 9)]),
    "PBS": ("/3", [{"PBS_ARRAY_INDEX": str(number)} for number in (1, 2, 3)]),
    "Torque": ("/3", [{"PBS_ARRAYID": str(number)} for number in (1, 2, 3)]),
    "LSF": (None, [lsf(number, 4) for number in (1, 2, 3, 4)]),
    "LSF by 3": (None, [lsf(number, 7, 3) for number in (1, 4, 7)]),
    "Grid Engine": (None, [sge(number, "2", "6", "2") for number in "246"]),
    "AWS Batch": (None, [{"AWS_BATCH_JOB_ARRAY_INDEX": str(n), "AWS_BATCH_JOB_ARRAY_SIZE": "3"} for n in range(3)]),
    "Kubernetes": ("/3", [{"JOB_COMPLETION_INDEX": str(number)} for number in range(3)]),
    "srun": (None, [{**srun(number, 3), "SLURM_STEP_ID": "0"} for number in range(3)]),
    "srun in each task": (
        None,
        [{**slurm(task, 1, 2, 2), **srun(number, 2), "SLURM_STEP_ID": "0"} for task in (1, 2) for number in (0, 1)],
    ),
}


@pytest.mark.parametrize("array", ARRAYS)
def test_the_tasks_of_an_array_are_all_parts(array: str) -> None:
    given, tasks = ARRAYS[array]
    assert [to_part(given, task) for task in tasks] == [(part, len(tasks)) for part in range(1, len(tasks) + 1)]


def test_each_scheduler_is_among_them() -> None:
    assert set(SCHEDULERS) <= set(ARRAYS)


def test_outside_of_arrays_one_part_is_all() -> None:
    assert to_part(None, {}) == (1, 1)
    assert to_part(None, srun(0, 4)) == (1, 1)  # as a batch script sees it
    assert to_part(None, {"LSB_JOBINDEX": "0"}) == (1, 1)
    assert to_part(None, {"LSB_JOBINDEX": "²"}) == (1, 1)
    assert to_part(None, sge("undefined", "undefined", "undefined", "undefined")) == (1, 1)
    assert to_part("3/8", {}) == (3, 8)
    assert to_part("1/2", slurm(3, 0, 3, 4)) == (1, 2)


@pytest.mark.parametrize(
    ("task", "environment", "message", "hint"),
    [
        (None, slurm(3, 3, 7, 2), "the task ids of this Slurm array have gaps", "use --task I/N"),
        (None, lsf(3, 7, 3), "the task ids of this LSF array have gaps", "use --task I/N"),
        ("/2", {"PBS_ARRAY_INDEX": "3"}, "the task ids of this PBS array have gaps", "use --task I/N"),
        ("/3", {"PBS_ARRAY_INDEX": "0"}, "PBS task 0 is before the first, 1",
         "number tasks from 1, or use --task $((PBS_ARRAY_INDEX + 1))/3"),
        (None, {"PBS_ARRAYID": "1"}, "Torque does not say how many tasks the array has", "--task /N, as in --task /8"),
        ("/8", {}, "this is not a task of a job array, so `--task /8` lacks its number", "--task 1/8"),
        *[(text, {}, f"`--task {text}` is not of the form I/N", "--task 1/8") for text in ("3", "a/b", "3/", "-1/4")],
    ],
)  # fmt: skip
def test_what_cannot_be_said(task: str | None, environment: Mapping[str, str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        to_part(task, environment)
    assert (str(caught.value), caught.value.hint) == (message, hint)
