"""The shapes that training reads (`--to`): conversations, rendered or not, as the columns of one data set type.

The types and their columns are TRL's (docs, "Dataset formats and types"): language modelling `text` or `messages`,
`prompt`, `prompt` + `completion`, `prompt` + `chosen` + `rejected`, `prompt` + `completion` + `label`, segments
`[{text, label}]` (axolotl's template-free format) and stepwise `prompt` + `completions` + `labels`.

A view never loses a turn silently: what it leaves out (`rejected` of a pair seen as text) the user asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from .errors import ChatfmtError, Location, RowError, UnknownName, UsageError
from .json_columns import decode_conversations, encode_conversations, json_array
from .rendering import ConversationBatch, Rendered, Renderer, RenderRequest
from .turn_columns import concat, last_roles, lengths_of, offsets_of, pick_turns

Fields = dict[str, pa.Array]
Turns = list[dict[str, Any]]


class Cutter(Protocol):
    """The code point at which message `first[row]` begins in the text of each conversation."""

    def __call__(self, chats: ConversationBatch, first: Sequence[int]) -> list[int]: ...


class Rows(Struct, frozen=True):
    """A CONVERSATIONS batch and how to render it; `renderer` is None where no template was asked for."""

    batch: pa.RecordBatch
    renderer: Renderer | None
    mask: bool = False
    cutter: Cutter | None = None
    """Finds where an answer begins inside a whole text, for templates whose prompts are no prefix of it."""

    def column(self, name: str) -> pa.Array | None:
        """The column of that name, or None where the data has none."""
        place = self.batch.schema.get_field_index(name)
        return None if place < 0 else self.batch.column(place)

    def need(self, name: str) -> pa.Array:
        """The column of that name; raises UsageError where the data has none."""
        column = self.column(name)
        if column is None:
            raise UsageError(f"the data has no `{name}`", hint=f"--map {name}=COLUMN")
        return column

    def take(self, rows: pa.Array) -> Rows:
        return replace(self, batch=self.batch.take(rows))

    def render(self, messages: pa.ListArray, *, generation_prompt: bool | None = None, spans: bool = False) -> Rendered:
        """Text of `messages` with the rows' tools, documents and variables; raises UsageError without a template."""
        if self.renderer is None:
            raise UsageError("this view is text, and no template was given", hint="-t chatml")
        return self.renderer(self.chats(messages), RenderRequest(generation_prompt, spans))

    def chats(self, messages: pa.ListArray) -> ConversationBatch:
        """`messages` with the rows' tools, documents and variables, which is what a template sees."""
        return ConversationBatch(
            messages, self.column("tools"), self.column("documents"), self.column("template_kwargs")
        )


def join(first: pa.ListArray, second: pa.ListArray) -> pa.ListArray:
    """The turns of `first`, then those of `second`, row by row; null where either is null."""
    if first.type == second.type:
        return concat(first, second, null="either")
    pairs = zip(decode_conversations(first), decode_conversations(second), strict=True)
    return encode_conversations([None if a is None or b is None else [*a, *b] for a, b in pairs])


def cut_last(rows: Rows, messages: pa.ListArray) -> tuple[pa.ListArray, pa.ListArray]:
    """The turns before the last one, and the last one, which must be the assistant's.

    Raises RowError `view.completion` for a row that does not end with an assistant turn.
    """
    lengths = lengths_of(messages)
    for row, (length, role) in enumerate(zip(lengths.tolist(), last_roles(messages), strict=True)):
        if length < 2 or role != "assistant":
            raise RowError(
                "the conversation does not end with an answer to a prompt",
                code="view.completion",
                at=Location(row=row),
                hint="--on-error skip leaves such rows out, --to text keeps them whole",
            )
    last = np.zeros(int(lengths.sum()), np.bool_)
    last[offsets_of(lengths)[1:] - 1] = True
    return pick_turns(messages, ~last), pick_turns(messages, last)


def text(rows: Rows) -> Fields:
    """`text`: the whole conversation rendered; with the mask also `assistant_spans`, lists of [start, end)."""
    if (ready := rows.column("text")) is not None and rows.column("messages") is None:
        return {"text": ready}
    rendered = rows.render(whole(rows), spans=rows.mask)
    return {"text": rendered.text, **({"assistant_spans": rendered.spans} if rows.mask else {})}


def token_rows(rows: Rows) -> Fields:
    """`text` with `assistant_spans`, from which a tokenizer makes `input_ids`, `labels` and `assistant_masks`."""
    rendered = rows.render(whole(rows), spans=True)
    assert rendered.spans is not None
    return {"text": rendered.text, "assistant_spans": rendered.spans}


def messages(rows: Rows) -> Fields:
    """`messages`: the whole conversation, with `tools` and `chat_template_kwargs` where the data has them."""
    return {"messages": whole(rows), **conversational_extras(rows)}


def whole(rows: Rows) -> pa.ListArray:
    """The conversation as one list of turns: `messages`, else the prompt and its completion or chosen answer."""
    for name in ("messages", "completion", "chosen", "prompt"):
        column = rows.column(name)
        if column is not None:
            before = rows.column("prompt") if name in ("completion", "chosen") else None
            return column if before is None else join(before, column)
    return rows.need("messages")


def conversational_extras(rows: Rows) -> Fields:
    """`tools`, `documents` and `chat_template_kwargs`, which a conversational row needs to be rendered later."""
    names = {"tools": "tools", "documents": "documents", "template_kwargs": "chat_template_kwargs"}
    found = {shown: rows.column(name) for name, shown in names.items()}
    return {shown: column for shown, column in found.items() if column is not None}


def prompt_completion(rows: Rows) -> Fields:
    """`prompt` and `completion`; rendered, the two together are exactly the render of the whole conversation."""
    before, after = prompt_and_completion(rows)
    if rows.renderer is None:
        return {"prompt": before, "completion": after, **conversational_extras(rows)}
    prompts, (completions,) = cut_texts(rows, before, [after])
    return {"prompt": prompts, "completion": completions}


def prompt_and_completion(rows: Rows) -> tuple[pa.ListArray, pa.ListArray]:
    """The turns of prompt and completion: the data's own, or those before and of the last assistant turn."""
    if rows.column("prompt") is not None:
        name = "completion" if rows.column("completion") is not None else "chosen"
        return rows.need("prompt"), rows.need(name)
    return cut_last(rows, rows.need("messages"))


def prompt(rows: Rows) -> Fields:
    """`prompt`: the data's own, or the conversation without the last answer, ready for the model to go on."""
    turns = rows.column("prompt")
    if turns is None:
        whole_turns = rows.need("messages")
        answered = rows.column("completion") is None and set(last_roles(whole_turns)) == {"assistant"}
        turns = cut_last(rows, whole_turns)[0] if answered else whole_turns
    if rows.renderer is None:
        return {"prompt": turns, **conversational_extras(rows)}
    return {"prompt": pa.array(open_texts(rows, turns), pa.string())}


def preference(rows: Rows) -> Fields:
    """`prompt`, `chosen`, `rejected`; the prompt that both answers share is taken out where the data repeats it."""
    before, chosen, rejected = pair(rows)
    if rows.renderer is None:
        return {"prompt": before, "chosen": chosen, "rejected": rejected, **conversational_extras(rows)}
    prompts, (good, bad) = cut_texts(rows, before, [chosen, rejected])
    return {"prompt": prompts, "chosen": good, "rejected": bad}


def pair(rows: Rows) -> tuple[pa.ListArray, pa.ListArray, pa.ListArray]:
    """Prompt, chosen and rejected turns; without a `prompt` column it is the longest run of turns both begin with."""
    chosen, rejected = rows.need("chosen"), rows.need("rejected")
    given = rows.column("prompt")
    better, worse = decode_conversations(chosen), decode_conversations(rejected)
    prompts = decode_conversations(given) if given is not None else [None] * len(better)
    parts = [_split_pair(row, *turns) for row, turns in enumerate(zip(prompts, better, worse, strict=True))]
    before, good, bad = zip(*parts, strict=True) if parts else ((), (), ())
    return encode_conversations(before), encode_conversations(good), encode_conversations(bad)


def _split_pair(row: int, given: Turns | None, chosen: Turns | None, rejected: Turns | None) -> tuple[Turns, ...]:
    if chosen is None or rejected is None:
        raise RowError("one side of the pair is missing", code="view.pair", at=Location(row=row))
    if given is not None and not (_starts(chosen, given) and _starts(rejected, given)):
        return given, chosen, rejected
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _starts(turns: Turns, prompt: Turns) -> bool:
    return len(turns) > len(prompt) and turns[: len(prompt)] == prompt


def unpaired_preference(rows: Rows) -> Fields:
    """`prompt`, `completion`, `label`: one row an answer; a pair becomes two rows, the chosen one first."""
    if rows.column("label") is None and rows.column("chosen") is not None:
        return _unpair(rows)
    return {**prompt_completion(rows), "label": rows.need("label")}


def _unpair(rows: Rows) -> Fields:
    sides = preference(rows)
    order = pa.array(np.arange(2 * len(rows.batch)).reshape(2, -1).T.ravel())
    twice = pa.array(np.repeat(np.arange(len(rows.batch)), 2))
    shared = {name: column.take(twice) for name, column in sides.items() if name not in ("chosen", "rejected")}
    both = _either(sides["chosen"], sides["rejected"]).take(order)
    label = pa.array(np.tile([True, False], len(rows.batch)))
    return {"prompt": shared.pop("prompt"), "completion": both, "label": label, **shared}


def _either(first: pa.Array, second: pa.Array) -> pa.Array:
    if first.type == second.type:
        return pa.concat_arrays([first, second])
    return encode_conversations(decode_conversations(first) + decode_conversations(second))


def segments(rows: Rows) -> Fields:
    """`segments`: the rendered text cut into `{text, label}`, label true for what the model is trained on."""
    if (ready := rows.column("segments")) is not None:
        return {"segments": ready}
    rendered = rows.render(whole(rows), spans=True)
    assert rendered.spans is not None
    pairs = zip(rendered.text.to_pylist(), rendered.spans.to_pylist(), strict=True)
    return {"segments": json_array([cut_segments(text, spans) for text, spans in pairs])}


def cut_segments(text: str, spans: list[list[int]]) -> list[dict[str, Any]]:
    """The text in order as `{text, label}`, label true inside `spans`; the texts together are `text`."""
    found, at = [], 0
    for start, end in spans:
        found += [{"text": text[at:start], "label": False}, {"text": text[start:end], "label": True}]
        at = end
    return [segment for segment in [*found, {"text": text[at:], "label": False}] if segment["text"]]


def stepwise(rows: Rows) -> Fields:
    """`prompt`, `completions`, `labels`: process supervision, a label a step."""
    turns = rows.need("prompt")
    shown = turns if rows.renderer is None else pa.array(open_texts(rows, turns), pa.string())
    return {"prompt": shown, "completions": rows.need("completions"), "labels": rows.need("labels")}


def open_texts(rows: Rows, prompts: pa.ListArray) -> list[str]:
    """Each prompt rendered for the model to go on: with the generation prompt unless an assistant turn ends it.

    A prompt without turns is the empty text.

    TRL renders prompts in the same way (`data_utils.apply_chat_template`), but for its trimming of a final assistant
    turn, which stays closed here.
    """
    roles = last_roles(prompts)
    texts: list[str] = [""] * len(roles)
    for asks in (True, False):
        places = [row for row, role in enumerate(roles) if role is not None and (role != "assistant") is asks]
        if places:
            chosen = pa.array(places)
            with _subset(places):
                part = rows.take(chosen).render(prompts.take(chosen), generation_prompt=asks).text.to_pylist()
            for row, text in zip(places, part, strict=True):
                texts[row] = text
    return texts


@contextmanager
def _subset(places: list[int]) -> Iterator[None]:
    """Turn the row of a RowError raised inside, which counts some rows only, into its index in the batch."""
    try:
        yield
    except ChatfmtError as error:
        if error.at.row is not None:
            error.at = replace(error.at, row=places[error.at.row])
        raise


def cut_texts(rows: Rows, prompts: pa.ListArray, answers: list[pa.ListArray]) -> tuple[pa.Array, list[pa.Array]]:
    """The rendered prompt, and what of each whole render follows it, so that prompt + answer is the whole render.

    The cut lies after the generation prompt, or, where a whole render does not begin with it, where the answer's own
    text begins. Raises RowError `view.boundary` where two answers do not share the text before them.
    """
    joined = [join(prompts, answer) for answer in answers]
    wholes = [rows.render(turns).text.to_pylist() for turns in joined]
    opened = open_texts(rows, prompts)
    torn = [row for row, text in enumerate(opened) if not all(whole[row].startswith(text) for whole in wholes)]
    for row, text in zip(torn, _torn_prompts(rows, prompts, joined, wholes, torn), strict=True):
        opened[row] = text
    after = [
        pa.array([text[len(start) :] for text, start in zip(whole, opened, strict=True)], pa.string())
        for whole in wholes
    ]
    return pa.array(opened, pa.string()), after


def _torn_prompts(
    rows: Rows, prompts: pa.ListArray, joined: list[pa.ListArray], wholes: list[list[str]], torn: list[int]
) -> list[str]:
    """For the rows `torn`, whose prompt is no prefix, the text before the answer in the whole render."""
    if not torn:
        return []
    places = pa.array(torn)
    some, first = rows.take(places), prompts.take(places).value_lengths().to_pylist()
    if some.cutter is None:
        raise _no_boundary(torn[0])
    with _subset(torn):
        cuts = [some.cutter(some.chats(turns.take(places)), first) for turns in joined]
    texts = [
        [whole[row][:cut] for row, cut in zip(torn, found, strict=True)]
        for whole, found in zip(wholes, cuts, strict=True)
    ]
    for place, row in enumerate(torn):
        if len({column[place] for column in texts}) > 1:
            raise _no_boundary(row)
    return texts[0]


def _no_boundary(row: int) -> RowError:
    return RowError(
        "the template renders the prompt differently for each answer, so the text cannot be cut there",
        code="view.boundary",
        at=Location(row=row),
        hint="--to segments or --to text --mask mark the answer inside the whole text",
    )


VIEWS: dict[str, Callable[[Rows], Fields]] = {
    "text": text,
    "messages": messages,
    "prompt-completion": prompt_completion,
    "prompt": prompt,
    "preference": preference,
    "unpaired-preference": unpaired_preference,
    "segments": segments,
    "stepwise": stepwise,
    "tokens": token_rows,
}

OWN_VIEW: Mapping[str, str] = {
    "prompt-only": "prompt",
    "prompt-completion": "prompt-completion",
    "preference": "preference",
    "unpaired-preference": "unpaired-preference",
    "segments": "segments",
    "stepwise": "stepwise",
    "text": "text",
}
"""The view of each data set type but language modelling, which is `text` with a template and `messages` without."""


def choose(to: str, data_type: str, *, rendered: bool) -> str:
    """The name of the view that `--to` means for data of that type; raises UnknownName for a view that is none."""
    if to == "auto":
        return OWN_VIEW.get(data_type, "text" if rendered else "messages")
    if to not in VIEWS:
        raise UnknownName.of("view", to, ["auto", *VIEWS])
    return to
