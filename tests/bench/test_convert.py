"""The benchmark of whole conversions runs to its end, and its subjects agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from . import convert


def test_each_subject_is_measured(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"é {n}"}]} for n in (1, 2)
    ]
    for folder in ("parquet", "jsonl"):
        (tmp_path / folder).mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet" / "a.parquet")
    (tmp_path / "jsonl" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--templates", "chatml", "--subjects", "chatfmt,copy,table,jinja", "--repeat", "1", "--workers", "1"]
    command = [sys.executable, convert.__file__, str(tmp_path), *options, "--json"]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=100)
    assert [(found["kind"], found["rows"], [*found["subjects"]]) for found in json.loads(ran.stdout)] == [
        ("parquet-parquet", 2, ["chatfmt", "copy", "table", "jinja"]),
        ("jsonl-jsonl", 2, ["chatfmt", "copy", "jinja"]),
        ("parquet-jsonl", 2, ["chatfmt", "jinja"]),
    ]
