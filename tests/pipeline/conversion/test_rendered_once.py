"""Rows that stay are converted once, however many rows of their batch are rejected, and before or after they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.pipeline.conversion import fitting, stages, task
from chatfmt.pipeline.conversion.stages import OFFERS
from chatfmt.recipe import Recipe

from ...conftest import run_here, write_rows
from ..test_convert import read

ASKED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
REFUSED = {"messages": [ASKED[0], *ASKED]}
UNTRAINED = {"messages": [ASKED[0], {**ASKED[1], "weight": 0}]}
ROLE = {"messages": [{"role": "robot", "content": "a"}, ASKED[1]]}


@pytest.mark.parametrize(
    ("bad", "keys", "rendered"),
    [
        ([REFUSED] * 8, {}, 18),
        ([REFUSED], {}, 11),
        ([UNTRAINED] * 8, {"mask": True}, 18),
        ([REFUSED, UNTRAINED] * 3, {"mask": True}, 16),
        ([ROLE] * 8, {}, 10),
        ([ROLE, REFUSED] * 4, {}, 14),
    ],
)
def test_rendered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: list[Any], keys: dict[str, Any], rendered: int
) -> None:
    rows = [{"messages": [{**ASKED[0], "content": str(row)}, ASKED[1]]} for row in range(10)]
    for place, row in enumerate(bad):
        rows.insert(2 * place + 1, row)
    write_rows(tmp_path / "in.jsonl", rows)
    counted: list[int] = []
    original = stages.to_renderer

    def counting(*args: Any) -> Any:
        renderer = original(*args)

        def render(chats: Any, *more: Any) -> Any:
            counted.append(len(chats))
            return renderer(chats, *more)

        return render

    monkeypatch.setattr(stages, "to_renderer", counting)
    recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="gemma", engine="jinja", on_error="skip",
                    max_bad="100%", **keys)  # fmt: skip
    done = chatfmt.convert(recipe, out=tmp_path / "out.jsonl", executor="serial")
    assert (done.rows, done.rejected, sum(counted)) == (10, len(bad), rendered)
    texts = [row["text"] for row in read(tmp_path / "out.jsonl")]
    assert texts == [
        f"<bos><start_of_turn>user\n{row}<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n" for row in range(10)
    ]


@pytest.mark.parametrize(
    ("keys", "checked", "counts"),
    [
        ({}, [18, 10], {"finding.msg.ends_user": 1}),
        ({"transforms": {"empty_turns": "drop"}}, [18, 10], {"finding.msg.ends_user": 1}),
        ({"transforms": {"trailing_user": "drop"}}, [18, 10, 10], {"change.trailing_user": 1}),
    ],
)
def test_stages_before_a_refusal_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], checked: list[int], counts: dict[str, int]
) -> None:
    """They run again only where something was counted, of which the part of the rejected rows is not known.

    Warnings are sought in the rows that stay.
    """
    good = [{"messages": ASKED}] * 9 + [{"messages": [*ASKED, {"role": "user", "content": "c"}]}]
    rows = [row for pair in zip(good, [REFUSED] * 8, strict=False) for row in pair] + good[8:]
    write_rows(tmp_path / "in.jsonl", rows)
    run, counted = stages.checks.run, list[int]()
    monkeypatch.setattr(stages.checks, "run", lambda batch, *more: counted.append(len(batch)) or run(batch, *more))
    recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="gemma", on_error="skip", max_bad="100%", **keys)
    chatfmt.convert(recipe, out=tmp_path / "out", executor="serial")
    (shard,) = json.loads((tmp_path / "out" / ".chatfmt" / "manifest.json").read_text())["shards"]
    assert [rows for rows in counted if rows > 1] == checked  # one more is converted to know its columns
    assert {name: count for name, count in shard["counts"].items() if name.startswith(("finding", "change"))} == counts
    assert (shard["rows_in"], shard["rows"], shard["rejected"]) == (18, 10, 8)


@pytest.mark.parametrize("engine", ["auto", "jinja"])
def test_rejects_hold_no_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """The frames of a traceback do, until a garbage collection of all generations."""
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"messages": ASKED}) + "\n" + json.dumps(REFUSED) + "\n" for _ in range(9))
    )
    noted, to_reject = list[Any](), task.to_reject

    def note(rejected: Any) -> Any:
        error = rejected.error
        noted.append((error.__traceback__, error.__cause__.__traceback__))
        return to_reject(rejected)

    monkeypatch.setattr(task, "to_reject", note)
    recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="gemma", engine=engine, on_error="skip", max_bad="100%")
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl", executor="serial")
    assert noted == [(None, None)] * 9


def test_a_template_is_probed_once_for_all_its_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses = "{% if loop.index0 % 2 and m.role == 'user' %}{{ raise_exception(m.content) }}{% endif %}"
    (tmp_path / "t.jinja").write_text(f"{{% for m in messages %}}{refuses}{{{{ m.content }}}}{{% endfor %}}")
    rows = [{"messages": [ASKED[0], {**ASKED[0], "content": f"no {n}"}, ASKED[1]]} for n in range(OFFERS + 1)]
    write_rows(tmp_path / "in.jsonl", rows)
    probed, original = list[str](), fitting.fitting
    monkeypatch.setattr(fitting, "fitting", lambda *given: probed.append(given[0].name) or original(*given))
    found = run_here("check", "in.jsonl", "-t", "t.jinja", cwd=tmp_path, env={"COLUMNS": "300"}).stdout.decode()
    known = "`chatfmt templates probe t.jinja` shows what the template accepts"
    assert f"{OFFERS + 1}   `--fit` adapts the data where it can; {known}\n" in re.sub(" +\n", "\n", found)
    assert probed == ["t.jinja"]
