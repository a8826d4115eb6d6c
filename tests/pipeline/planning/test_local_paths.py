"""Outputs and rejects may be at URLs, and reports not; no folder is ever named `s3:`."""

from __future__ import annotations

import pytest

from ...conftest import run_here

WRITABLE = (
    "hint: name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or "
    "hf://datasets/OWNER/NAME"
)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("--report", "s3://b/r.html"), ["error: `--report` cannot write to `s3://b/r.html`", "hint: --report r.html"]),
        (("--rejects", "https://b/c/r.jsonl"), ["error: cannot write to `https://b/c`", WRITABLE]),
        (("--rejects", "s3://u:secret@b/r.jsonl"),
         ["error: `s3://…@b` holds a password", "hint: leave it to the configuration of its library"]),
        (("--rejects", "memory://b/in.jsonl", "-o", "memory://b/in.jsonl"),
         ["error: `memory://b/in.jsonl` is the output", "hint: choose another file for --rejects"]),
    ],
)  # fmt: skip
def test_places_that_are_refused(tmp_path, monkeypatch, given, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"messages":[{"role":"robot","content":"hi"}]}\n')
    run = run_here("convert", "in.jsonl", "-t", "chatml", "--on-error", "skip", *given)
    assert (run.returncode, run.stderr.decode().splitlines()) == (2, error)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
