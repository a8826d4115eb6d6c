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
    template, saved = tmp_path / "own.jinja", tmp_path / "results.json"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    options = ["--templates", str(template), "--subjects", "chatfmt,copy,table,jinja", "--repeat", "1"]
    options += ["--workers", "1", "--json", "--save", str(saved)]
    command = [sys.executable, convert.__file__, str(tmp_path), *options]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=100)
    found = json.loads(ran.stdout)
    assert [(each["kind"], each["rows"], [*each["subjects"]]) for each in found] == [
        ("parquet-parquet", 2, ["chatfmt", "copy", "table", "jinja"]),
        ("jsonl-jsonl", 2, ["chatfmt", "copy", "jinja"]),
        ("parquet-jsonl", 2, ["chatfmt", "jinja"]),
    ]
    assert json.loads(saved.read_text()) == found
