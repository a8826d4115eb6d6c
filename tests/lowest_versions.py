"""A smoke test with the lowest versions that `pyproject.toml` allows: `python tests/lowest_versions.py`.

`.ci/run` makes the environment. Each command must succeed, and the rows must be the bytes that newer versions write.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).parent / "data"
TOKENIZER = (
    '{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[],"byte_fallback":false}}'
)
COMMANDS = [
    f"convert {DATA}/everyday.jsonl -t chatml --mask --keep topic -o rows.jsonl",
    f"convert {DATA}/tools.jsonl -t qwen3 -o tools.jsonl.zst",
    f"convert {DATA}/tools.jsonl --for trl-sft -o out/",
    f"convert {DATA}/everyday.jsonl -t llama-3 --to tokens --tokenizer tokenizer.json --workers 2 -o ids.parquet",
    "convert out/ --to messages -o again.jsonl",
    "inspect out/", "preview out/ -t qwen3", "check out/ -t qwen3", "verify out/", "stats out/",
    "loader out/ --model M",
    "templates list", "templates probe gemma", "recipes list", "convert --help",
]  # fmt: skip
WRITTEN = {"rows.jsonl": "1dad167638f03a08", "again.jsonl": "715c7977b069d78b"}
"""Files, and the first digits of their SHA-256."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name, "tokenizer.json").write_text(TOKENIZER, encoding="utf-8")
        for command in COMMANDS:
            run = subprocess.run([sys.executable, "-m", "chatfmt", *command.split()], cwd=name, capture_output=True)
            assert run.returncode == 0, f"chatfmt {command}\n{run.stderr.decode()}"
        found = {file: hashlib.sha256(Path(name, file).read_bytes()).hexdigest()[:16] for file in WRITTEN}
        assert found == WRITTEN, found
        code = (
            "from datasets import load_dataset; print(load_dataset('json', data_files='rows.jsonl')['train'].num_rows)"
        )
        loaded = subprocess.run([sys.executable, "-c", code], cwd=name, capture_output=True, text=True)
        assert loaded.stdout == "12\n", loaded.stderr
    print(f"{len(COMMANDS)} commands with the lowest versions")


if __name__ == "__main__":
    main()
