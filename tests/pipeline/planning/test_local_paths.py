"""Outputs and rejects may be at URLs, and reports not; no folder is ever named `s3:`."""

from __future__ import annotations

import pytest

import chatfmt

from ...conftest import run_here

WRITABLE = (
    "hint: name a folder or file, s3://BUCKET/PREFIX (chatfmt[s3]), gs:// (chatfmt[gcs]), az:// (adlfs) or "
    "hf://datasets/OWNER/NAME"
)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("--report", "s3://b/r.html"),
         ["error: a report is a file on this machine, not `s3://b/r.html`", "hint: r.html"]),
        (("--rejects", "https://b/c/r.jsonl"), ["error: cannot write to `https://b/c/r.jsonl`", WRITABLE]),
        (("--rejects", "s3://u:secret@b/r.jsonl"),
         ["error: `s3://…@b/r.jsonl` holds a password", "hint: leave it to the configuration of its library"]),
        (("--rejects", "memory://b/in.jsonl", "-o", "memory://b/in.jsonl"),
         ["error: `memory://b/in.jsonl` is the output", "hint: choose another file for --rejects"]),
        (("-o", "simplecache::s3://b/x"), ["error: cannot write to `simplecache::s3://b/x`", WRITABLE]),
        (("-o", "file://out"), ["error: cannot write to `file://out`", WRITABLE]),
    ],
)  # fmt: skip
def test_places_that_are_refused(tmp_path, monkeypatch, given, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"messages":[{"role":"robot","content":"hi"}]}\n')
    run = run_here("convert", "in.jsonl", "-t", "chatml", "--on-error", "skip", *given)
    assert (run.returncode, run.stderr.decode().splitlines()) == (2, error)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_url_of_this_machine_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    turns = '[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]'
    (tmp_path / "in.jsonl").write_text(f'{{"messages":{turns}}}\n{{"messages":[{{"role":"robot","content":"hi"}}]}}\n')
    given = ["in.jsonl", "--on-error", "skip", "--max-bad", "1", "-o", f"FILE://{tmp_path}/x.jsonl"]
    run = run_here("convert", *given, "--rejects", f"file:{tmp_path}/bad.jsonl")
    assert (run.returncode, (tmp_path / "x.jsonl").read_text()) == (0, f'{{"messages":{turns}}}\n')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "in.jsonl", "x.jsonl"]
    chatfmt.convert(chatfmt.Recipe(source="in.jsonl", limit=1), out=f"file://{tmp_path}/y.jsonl", workers=1)
    assert (tmp_path / "y.jsonl").read_text() == (tmp_path / "x.jsonl").read_text()
