"""Only `-o` may name a place that is not on this machine; no folder is ever named `s3:`."""

from __future__ import annotations

import pytest

from ...conftest import run_cli


@pytest.mark.parametrize("url", ["s3://b/r.jsonl", "gs://b/c/r.jsonl"])
def test_rejects_at_a_url_are_a_usage_error_and_no_folder(tmp_path, url):
    (tmp_path / "in.jsonl").write_text('{"messages":[{"role":"robot","content":"hi"}]}\n')
    run = run_cli(
        "convert", "in.jsonl", "-t", "chatml", "-o", "out.jsonl", "--on-error", "skip", "--rejects", url, cwd=tmp_path
    )
    more = ", or leave it out: an output on a store has its rejects with it"
    message = f"error: `--rejects` cannot write to `{url}`\nhint: --rejects r.jsonl{more}\n"
    assert (run.returncode, run.stderr.decode()) == (2, message)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
