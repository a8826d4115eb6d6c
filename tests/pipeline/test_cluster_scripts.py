"""The scripts of `chatfmt guide pipelines`, run by bash with stand-ins for the scheduler: the bytes of one run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import run_cli
from ..warm import ROOT
from .test_convert import ROWS, tree, write_jsonl

GUIDE = (ROOT / "chatfmt/guides/pipelines.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"<!-- (\w+\.sh) -->\n```bash\n(.*?)```", GUIDE, re.DOTALL))
SBATCH = """#!/bin/bash
# Runs a script once for each task of its array, or a wrapped command, at once; prints a job id.
for given in "$@"; do case $given in --export=*OUT=*) export OUT=${given##*OUT=};; esac; done
[ "${@: -2:1}" = --wrap ] && exec bash -c "${@: -1}"
range=$(sed -n 's/^#SBATCH --array=//p' "${@: -1}")
export SLURM_ARRAY_TASK_MIN=${range%-*} SLURM_ARRAY_TASK_MAX=${range#*-} SLURM_CPUS_PER_TASK=1
export SLURM_ARRAY_TASK_COUNT=${range#*-}
for SLURM_ARRAY_TASK_ID in $(seq ${range/-/ }); do export SLURM_ARRAY_TASK_ID; bash "${@: -1}" >&2; done
echo 17
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "in.jsonl", ROWS[:60])
    (tmp_path / "recipe.yaml").write_text("source: in.jsonl\ntemplate: chatml\n")
    programs = {"sbatch": SBATCH, "chatfmt": f'#!/bin/bash\nexec {sys.executable} -m chatfmt "$@"\n'}
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text.replace("100000", "20").replace("1-8", "1-2").replace("/8", "/2"))
    assert run_cli("convert", "recipe.yaml", "-o", "whole", "--rows-per-shard", "20", cwd=tmp_path).returncode == 0
    return tmp_path


def bash(folder: Path, *command: str, **env: str) -> None:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-eu", *command], cwd=folder, check=True, env={**os.environ, "PATH": path, "OUT": "out", **env}
    )


def test_the_scripts_of_slurm(folder: Path) -> None:
    bash(folder, "submit.sh")
    assert tree(folder / "out") == tree(folder / "whole")
    assert len(tree(folder / "out")) == 5


def test_the_script_of_kubernetes(folder: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("five commands in fresh interpreters: run with --full")
    bash(folder, "-c", "chatfmt plan recipe.yaml -o out --rows-per-shard 20 -q")
    for task in range(2):
        bash(folder, "worker.sh", JOB_COMPLETION_INDEX=str(task))
    bash(folder, "-c", "chatfmt commit out -q")
    assert tree(folder / "out") == tree(folder / "whole")
