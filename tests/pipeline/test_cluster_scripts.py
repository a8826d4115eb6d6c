"""The scripts of `chatfmt guide pipelines`, run by bash with stand-ins for the scheduler: the bytes of one run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatfmt.manifest import CARD, MANIFEST

from ..conftest import run_cli
from ..warm import ROOT
from .test_convert import ROWS, tree, write_jsonl

GUIDE = (ROOT / "chatfmt/guides/pipelines.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"<!-- (\w+\.\w+) -->\n```\w+\n(.*?)```", GUIDE, re.DOTALL))
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
KUBECTL = f"""#!{sys.executable}
# `apply` runs the container of an Indexed Job once for each index, each in a folder of its own; `wait` does nothing.
import os, subprocess, sys, tempfile, yaml
if sys.argv[1] == "apply":
    job = yaml.safe_load(open(sys.argv[3]))["spec"]
    (container,) = job["template"]["spec"]["containers"]
    for index in range(job["completions"]):
        with tempfile.TemporaryDirectory() as folder:
            own = {{"JOB_COMPLETION_INDEX": str(index), "HOME": folder, "TMPDIR": folder, "XDG_CACHE_HOME": folder}}
            subprocess.run(container["command"], check=True, cwd=folder, env={{**os.environ, **own}})
"""


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if not request.config.getoption("--full"):
        pytest.skip("ten commands in fresh interpreters: run with --full")
    write_jsonl(tmp_path / "in.jsonl", ROWS[:60])
    (tmp_path / "recipe.yaml").write_text("source: in.jsonl\ntemplate: chatml\nrows_per_shard: 7\n")
    (tmp_path / "bin").mkdir()
    chatfmt = f'#!/bin/bash\nexec {sys.executable} -m chatfmt "$@"\n'
    for name, text in {"sbatch": SBATCH, "kubectl": KUBECTL, "chatfmt": chatfmt}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
    assert run_cli("convert", "recipe.yaml", "-o", "whole", cwd=tmp_path).returncode == 0
    assert len(tree(tmp_path / "whole")) == 9 + 2
    return tmp_path


def bash(folder: Path, script: str, **env: str) -> None:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", "-eu", script], cwd=folder, check=True, env={**os.environ, "PATH": path, **env})


def test_the_scripts_of_slurm(folder: Path) -> None:
    bash(folder, "submit.sh", OUT="out")
    assert tree(folder / "out") == tree(folder / "whole")


def test_the_scripts_of_kubernetes(folder: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("moto", "flask", "s3fs")):
        pytest.skip("not installed: moto[server], chatfmt[s3]")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
        given = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=url, **given)
        client.create_bucket(Bucket="bucket")
        client.upload_file(str(folder / "in.jsonl"), "bucket", "in.jsonl")
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("in.jsonl", "s3://bucket/in.jsonl"))
        bash(folder, "kubernetes.sh", **keys, AWS_ENDPOINT_URL=url, NO_PROXY="127.0.0.1")
        names = [entry["Key"] for entry in client.list_objects_v2(Bucket="bucket", Prefix="chat/")["Contents"]]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            client.download_file("bucket", name, str(folder / name))
    finally:
        server.stop()
    found, whole = tree(folder / "chat"), tree(folder / "whole")
    named = {name: found.pop(name) for name in (CARD, MANIFEST)}  # they name the source, which is elsewhere
    assert found == {name: digest for name, digest in whole.items() if name not in named}
