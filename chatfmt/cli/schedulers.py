"""The part of a job array that a task runs, from the variables that its scheduler sets; SCHEDULERS has them all."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from ..errors import UsageError


class ArrayVariables(Struct, frozen=True):
    """The variables of a scheduler that hold the index of a task, the first and last index, their step and number."""

    index: str
    first: str | int
    """A variable, or the index that arrays of this scheduler begin with."""
    last: str = ""
    step: str = ""
    count: str = ""
    outside: int | None = None
    """The index outside of arrays."""


SCHEDULERS = {
    "Slurm": ArrayVariables(
        "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP",
        "SLURM_ARRAY_TASK_COUNT",
    ),
    "PBS": ArrayVariables("PBS_ARRAY_INDEX", 1),
    "Torque": ArrayVariables("PBS_ARRAYID", 1),
    "LSF": ArrayVariables("LSB_JOBINDEX", 1, "LSB_JOBINDEX_END", "LSB_JOBINDEX_STEP", outside=0),
    "Grid Engine": ArrayVariables("SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE"),
    "AWS Batch": ArrayVariables("AWS_BATCH_JOB_ARRAY_INDEX", 0, count="AWS_BATCH_JOB_ARRAY_SIZE"),
    "Kubernetes": ArrayVariables("JOB_COMPLETION_INDEX", 0),
}  # fmt: skip
"""The variables of each scheduler: one line makes `chatfmt run` read those of another."""


def to_part(task: str | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Return I and N of `--task I/N`; of `/N`, and without it, as far as the scheduler says; 1 and 1 outside of arrays.

    Raises UsageError where the scheduler does not say how many tasks there are, or where their indexes have gaps.
    """
    found = re.fullmatch(r"(\d*)/(\d+)", "/0" if task is None else task)
    if found is None:
        raise UsageError(f"`--task {task}` is not of the form I/N", hint="--task 1/8")
    if found[1]:
        return int(found[1]), int(found[2])
    index, count = part_of_array(environment, int(found[2]))
    number, processes = part_of_step(environment)
    return (index - 1) * processes + number, count * processes


def part_of_array(environment: Mapping[str, str], given: int) -> tuple[int, int]:
    """Return the number of a task of an array, from 1, and the number of tasks: `given`, unless that is 0."""
    for name, variables in SCHEDULERS.items():
        index, start = number_in(environment, variables.index), variables.first
        first = start if isinstance(start, int) else number_in(environment, start)
        if index is None or first is None or index == variables.outside:
            continue
        step = number_in(environment, variables.step) or 1
        count = given or number_of_tasks(environment, name, variables, first, step)
        if index < first:
            text = f"{name} task {index} is before the first, {first}"
            raise UsageError(text, hint=f"number tasks from {first}, or use --task $(({variables.index} + 1))/{count}")
        if (index - first) % step or (index - first) // step >= count:
            raise gaps(name)
        return (index - first) // step + 1, count
    if given:
        raise UsageError(f"this is not a task of a job array, so `--task /{given}` lacks its number", hint="--task 1/8")
    return 1, 1


def number_of_tasks(environment: Mapping[str, str], name: str, variables: ArrayVariables, first: int, step: int) -> int:
    """Return how many tasks the array has; raises UsageError if the scheduler does not say, or contradicts itself."""
    last, count = number_in(environment, variables.last), number_in(environment, variables.count)
    if last is None and count is None:
        raise UsageError(f"{name} does not say how many tasks the array has", hint="--task /N, as in --task /8")
    spanned = count if last is None else (last - first) // step + 1
    if count not in (None, spanned):
        raise gaps(name)
    return spanned or 1


def part_of_step(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return the number of this process among those that `srun` started, from 1, and how many there are."""
    index, count = number_in(environment, "SLURM_PROCID"), number_in(environment, "SLURM_NTASKS")
    in_step = number_in(environment, "SLURM_STEP_ID") is not None  # a batch script has the others too
    return (index + 1, count) if in_step and index is not None and count else (1, 1)


def number_in(environment: Mapping[str, str], name: str) -> int | None:
    """Return the number in a variable; None if it is not set, or has another value."""
    value = environment.get(name, "")
    return int(value) if value.isdecimal() else None


def gaps(name: str) -> UsageError:
    return UsageError(f"the task ids of this {name} array have gaps", hint="use --task I/N")
