"""A run that `--resume` cannot continue names what differs, for folders and files, finished and interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import chatfmt
from chatfmt.errors import ChatfmtError, DialectError, OutputError

GOOD = json.dumps({"messages": [{"role": "user", "content": "a"}]})
BAD = json.dumps({"messages": [{"role": "robot", "content": "a"}]})


def convert(folder: Path, out: str, resume: bool = True, **keys: object) -> chatfmt.ChatfmtError | None:
    """Convert one row per shard in this process, and return the error: that of a run that `max_bad` stops."""
    stops = {"rows_per_shard": 1, "on_error": "skip", "max_bad": "0"}
    recipe = chatfmt.Recipe(**{"source": str(folder / "in.jsonl"), "template": "chatml", **stops, **keys})
    try:
        chatfmt.convert(recipe, folder / out, executor="serial", resume=resume)
    except ChatfmtError as error:
        return error
    return None


@pytest.mark.parametrize("out", ["out", "out.jsonl"])
def test_an_interrupted_run_names_what_differs(out: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n{BAD}\n")
    assert convert(tmp_path, out, resume=False) is not None
    for keys, difference in (
        ({"limit": 1, "seed": 3}, "`limit` was null and is 1, `seed` was 0 and is 3"),
        ({"template": "llama-3"}, "the template was `chatml` and is `llama-3`"),
        ({"rows_per_shard": 7}, "`rows_per_shard` was 1 and is 7"),
    ):
        error = convert(tmp_path, out, **keys)
        assert isinstance(error, OutputError) and error.message.endswith(f"so it cannot be resumed: {difference}")
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n{GOOD}\n")
    error = convert(tmp_path, out)
    assert error is not None and error.message.endswith(": the input files differ, or have changed")
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n{BAD}\n")
    assert convert(tmp_path, out, role={"robot": "assistant"}) is not None
    assert convert(tmp_path, out, resume=False) is not None


@pytest.mark.parametrize("out", ["out", "out.jsonl"])
def test_a_run_that_the_same_run_would_end_as_again_leaves_nothing(out: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n{BAD}\n")
    for keys in ({}, {"template": "llama-3"}):
        error = convert(tmp_path, out, resume=False, on_error="stop", **keys)
        assert isinstance(error, DialectError) and error.code == "msg.role"
        assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_template_file_whose_text_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n{BAD}\n")
    template = tmp_path / "t.jinja"
    for text, resume in (("{{ messages[0].content }}", False), ("{{ messages[-1].content }}", True)):
        template.write_text(text)
        error = convert(tmp_path, "out", resume, template=str(template), mask=False)
    assert error is not None and error.message.endswith(f": the text of the template `{template}` changed")


def test_a_finished_folder_too_and_nothing_is_left_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(f"{GOOD}\n")
    assert convert(tmp_path, "out", resume=False) is None
    assert sorted(path.name for path in (tmp_path / "out/.chatfmt").iterdir()) == ["lock", "manifest.json"]
    error = convert(tmp_path, "out", keep=["messages"], to="messages", template=None, mask=False)
    assert error is not None
    error = convert(tmp_path, "out", shuffle=True)
    assert error is not None and error.message.endswith(": `shuffle` was false and is true")
    assert convert(tmp_path, "out") is None
