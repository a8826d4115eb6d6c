"""Views of whole conversations: text, messages, segments and tokens."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ..json_columns import json_values
from .batch import Fields, RenderableBatch, template_inputs, whole_conversations


def text(batch: RenderableBatch) -> Fields:
    """`text`: the rendered conversation; with `--mask` also `assistant_spans`, a list of [start, end)."""
    if (ready := batch.column("text")) is not None and batch.column("messages") is None:
        return {"text": ready}
    rendered = batch.render(whole_conversations(batch), spans=batch.mask)
    return {"text": rendered.text, **({"assistant_spans": rendered.spans} if batch.mask else {})}


def tokens(batch: RenderableBatch) -> Fields:
    """`text` with `assistant_spans`, from which a tokenizer makes `input_ids`, `labels` and `assistant_masks`."""
    rendered = batch.render(whole_conversations(batch), spans=True)
    assert rendered.spans is not None
    return {"text": rendered.text, "assistant_spans": rendered.spans}


def messages(batch: RenderableBatch) -> Fields:
    """`messages`: the conversation, with `tools`, `documents` and `chat_template_kwargs` if the data has them."""
    return {"messages": whole_conversations(batch), **template_inputs(batch)}


def segments(batch: RenderableBatch) -> Fields:
    """`segments`: the rendered text as a list of `{label, text}`, label true for text that is trained on."""
    if (ready := batch.column("segments")) is not None:
        return {"segments": pa.array(json_values(ready), SEGMENTS)}
    rendered = batch.render(whole_conversations(batch), spans=True)
    assert rendered.spans is not None
    pairs = zip(rendered.text.to_pylist(), rendered.spans.to_pylist(), strict=True)
    return {"segments": pa.array([cut_segments(text, spans) for text, spans in pairs], SEGMENTS)}


SEGMENTS = pa.list_(pa.struct([("label", pa.bool_()), ("text", pa.string())]))


def cut_segments(text: str, spans: list[list[int]]) -> list[dict[str, Any]]:
    """Cut text into `{label, text}`, label true inside `spans`; the joined texts are `text`."""
    found, last = [], 0
    for start, end in spans:
        found += [{"label": False, "text": text[last:start]}, {"label": True, "text": text[start:end]}]
        last = end
    return [segment for segment in [*found, {"label": False, "text": text[last:]}] if segment["text"]]
