"""What `--for` writes is what each trainer's own code trains on, and the printed scripts of TRL train a step."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import run_cli
from . import cases, tiny
from .verdicts import FILE, PLANS

PACKAGES = {
    "unsloth": "unsloth_zoo", "llama_factory": "llamafactory", "ms_swift": "swift", "nemo_rl": "torch",
    "open_instruct": "torch",
}  # fmt: skip
"""The package that a module of `consumers` needs, where it has another name."""
needs_trl_package = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "trl"))),
    reason="PyTorch and TRL are not installed: pip install torch, then '.[trainers]'",
)


@needs_trl_package
@pytest.mark.parametrize("trainer", PLANS)
def test_its_own_code_makes_of_the_files_what_is_recorded(trainer: str, tmp_path: Path) -> None:
    from .verdicts import verdicts

    module = PLANS[trainer][0]
    package = PACKAGES.get(module, module)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps -r tests/trainers/requirements.txt")
    assert verdicts(trainer, tmp_path) == json.loads(FILE.read_text(encoding="utf-8"))[trainer]


@needs_trl_package
@pytest.mark.parametrize(
    ("trainer", "case"),
    [
        ("trl-sft", "tools"), ("trl-sft", "images"), ("trl-dpo", "preference"), ("trl-kto", "split preference"),
        ("trl-reward", "preference"), ("trl-grpo", "problems"),
    ],
)  # fmt: skip
def test_the_printed_script_trains_a_step(trainer: str, case: str, tmp_path: Path) -> None:
    rows, template, _, flags, _ = cases.CASES[case]
    tiny.draw(rows, tmp_path)
    source, model = tiny.write_rows(rows * 4, tmp_path / "rows.jsonl"), tiny.model(template, tmp_path)
    assert run_cli("convert", source, "--for", trainer, *flags, "-o", tmp_path / "out", "-q").returncode == 0
    script = run_cli("loader", tmp_path / "out", "--model", model, "--max-steps", "1").stdout
    run = subprocess.run([sys.executable, "-"], input=script, capture_output=True, cwd=tmp_path, timeout=200)
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    assert "'train_loss':" in run.stdout.decode()
