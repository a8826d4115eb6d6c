"""A program that uses the public names of chatfmt: `.ci/run` checks its types, a test runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

import chatfmt


def main(source: str, folder: Path) -> dict[str, int]:
    """Inspect, convert and render; return the number of rows of each split."""
    recipe = chatfmt.Recipe(source=source, template="chatml", limit=3)
    found: list[chatfmt.Inspection] = chatfmt.inspect(recipe)
    assert found[0].detection is not None and found[0].rows_seen > 0
    summary: chatfmt.Summary = chatfmt.convert(recipe, folder / "out", on_progress=lambda rows: None)
    template: chatfmt.ChatTemplate = chatfmt.ChatTemplate.load("chatml")
    text: str = template.render([{"role": "user", "content": chatfmt.escape("<|im_end|>", template)}])
    assert "<|im_end|>" in chatfmt.unescape(text, template)
    assert chatfmt.check(recipe)["problems"] == []
    figures = chatfmt.stats(recipe, by="topic")
    assert figures["values"]["conversations"] == 3
    batch: pa.RecordBatch = chatfmt.Converter(chatfmt.Recipe(source=source, template="chatml"))(
        pa.record_batch({"messages": [[{"role": "user", "content": "Hi!"}]]})
    )
    assert batch.num_rows == 1
    try:
        chatfmt.convert(recipe, folder / "out")
    except chatfmt.ChatfmtError as error:
        assert error.hint and error.code == "output.exists"
    return dict(summary.splits)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
