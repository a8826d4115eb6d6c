"""Views that split a conversation into prompt and answers: prompt, prompt-completion, preferences and stepwise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RowError, located, map_rows, refuse_rows
from ..json_columns import TEXT, decode_conversations, encode_conversations
from ..schema import Conversation
from ..turn_columns import last_roles, last_turns, lengths_of, pick_turns, rows_of_turns
from .batch import Fields, RenderableBatch, refuse_inputs, template_inputs
from .boundary import cut_texts, open_texts


def prompt_completion(batch: RenderableBatch) -> Fields:
    """`prompt` and `completion`; rendered, prompt + completion == text of the whole conversation."""
    before, after = prompt_and_completion(batch)
    if batch.renderer is None:
        return {"prompt": before, "completion": after, **template_inputs(batch)}
    prompts, (completions,) = cut_texts(batch, before, [after])
    return {"prompt": prompts, "completion": completions}


def prompt_and_completion(batch: RenderableBatch) -> tuple[pa.ListArray, pa.ListArray]:
    """The turns of prompt and completion: the data's own, or those before the last assistant turn and that turn."""
    prompts = batch.column("prompt")
    if prompts is None:
        return cut_last(batch.required("messages"))
    answers = batch.required("completion" if batch.column("completion") is not None else "chosen")
    return (prompts, answers) if not prompts.null_count else _cut_where_whole(prompts, answers)


def _cut_where_whole(prompts: pa.ListArray, answers: pa.ListArray) -> tuple[pa.ListArray, pa.ListArray]:
    """Return prompts and answers, cut before the last turn in rows whose answer is a whole conversation."""
    rows = pc.indices_nonzero(prompts.is_null())
    with located(rows=rows.to_pylist()):
        cut = [decode_conversations(side) for side in cut_last(answers.take(rows))]
    sides = decode_conversations(prompts), decode_conversations(answers)
    for place, row in enumerate(rows.to_pylist()):
        for side, made in zip(sides, cut, strict=True):
            side[row] = made[place]
    return encode_conversations(sides[0]), encode_conversations(sides[1])


def instruction(batch: RenderableBatch) -> Fields:
    """`instruction` and `output`: the text before the last answer, and that answer.

    Without a template they are the contents of one question and one answer. Raises RowError `view.instruction` for
    any other conversation.
    """
    if batch.renderer is not None:
        return dict(zip(("instruction", "output"), prompt_completion(batch).values(), strict=True))
    refuse_inputs(batch, "instruction")
    before, after = (decode_conversations(turns) for turns in prompt_and_completion(batch))
    asked = map_rows(lambda turns: _only_text(turns, "user"), before)
    answered = map_rows(lambda turns: _only_text(turns, "assistant"), after)
    return {"instruction": pa.array(asked, TEXT), "output": pa.array(answered, TEXT)}


def _only_text(turns: Conversation | None, role: str) -> str:
    first = turns[0] if turns else {}
    if turns == [{"role": role, "content": first.get("content")}] and isinstance(first["content"], str):
        return str(first["content"])
    raise RowError(
        "the conversation is more than one question and its answer",
        code="view.instruction",
        hint="-t chatml renders it to text, --on-error skip drops such rows",
    )


def cut_last(messages: pa.ListArray) -> tuple[pa.ListArray, pa.ListArray]:
    """The turns before the last one, and the last one.

    Raises RowError `view.completion` for a row that does not end with an assistant turn after another turn.
    """
    lengths = lengths_of(messages)
    answered = np.array([role == "assistant" for role in last_roles(messages)], np.bool_)
    refuse_rows(np.flatnonzero(~answered | (lengths < 2)).tolist(), _no_completion)
    last = last_turns(messages)
    return pick_turns(messages, ~last), pick_turns(messages, last)


def _no_completion(row: int) -> RowError:
    return RowError(
        "the conversation does not end with an answer to a prompt",
        code="view.completion",
        hint="--on-error skip drops such rows, --to text keeps them whole",
    )


def without_answer(messages: pa.ListArray) -> pa.ListArray:
    """The turns before a last one of the assistant; all turns in a row that ends otherwise.

    Raises RowError `view.completion` for a row that is an answer alone.
    """
    lengths = lengths_of(messages)
    answered = np.array([role == "assistant" for role in last_roles(messages)], np.bool_)
    refuse_rows(np.flatnonzero(answered & (lengths < 2)).tolist(), _no_completion)
    return pick_turns(messages, ~(last_turns(messages) & answered[rows_of_turns(messages)]))


def prompt(batch: RenderableBatch) -> Fields:
    """`prompt`: the data's own, or the conversation before the last answer, for the model to continue."""
    turns = batch.column("prompt")
    if turns is None:
        whole_turns = batch.required("messages")
        turns = without_answer(whole_turns) if batch.column("completion") is None else whole_turns
    if batch.renderer is None:
        return {"prompt": turns, **template_inputs(batch)}
    return {"prompt": pa.array(open_texts(batch, turns), pa.string())}


def preference(batch: RenderableBatch) -> Fields:
    """`prompt`, `chosen`, `rejected`; a prompt that both answers repeat is moved out of them."""
    before, chosen, rejected = split_pairs(batch)
    if batch.renderer is None:
        return {"prompt": before, "chosen": chosen, "rejected": rejected, **template_inputs(batch)}
    prompts, (good, bad) = cut_texts(batch, before, [chosen, rejected])
    return {"prompt": prompts, "chosen": good, "rejected": bad}


def split_pairs(batch: RenderableBatch) -> tuple[pa.ListArray, pa.ListArray, pa.ListArray]:
    """Prompt, chosen and rejected turns; without a `prompt` column, the prompt is all that both answers start with."""
    chosen, rejected = batch.required("chosen"), batch.required("rejected")
    prompt = batch.column("prompt")
    better, worse = decode_conversations(chosen), decode_conversations(rejected)
    prompts = decode_conversations(prompt) if prompt is not None else [None] * len(better)
    parts = map_rows(lambda turns: _split_pair(*turns), zip(prompts, better, worse, strict=True))
    before, good, bad = zip(*parts, strict=True) if parts else ((), (), ())
    return encode_conversations(before), encode_conversations(good), encode_conversations(bad)


def _split_pair(
    prompt: Conversation | None, chosen: Conversation | None, rejected: Conversation | None
) -> tuple[Conversation, ...]:
    if chosen is None or rejected is None:
        raise RowError("one side of the pair is missing", code="view.pair")
    if prompt is not None and not (_starts_with(chosen, prompt) and _starts_with(rejected, prompt)):
        return prompt, chosen, rejected
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _starts_with(turns: Conversation, prompt: Conversation) -> bool:
    return len(turns) > len(prompt) and turns[: len(prompt)] == prompt


def unpaired_preference(batch: RenderableBatch) -> Fields:
    """`prompt`, `completion`, `label`: one row per answer; a pair becomes two rows, the chosen one first."""
    if batch.column("label") is None and batch.column("chosen") is not None:
        return _unpair(batch)
    return {**prompt_completion(batch), "label": batch.required("label")}


def _unpair(batch: RenderableBatch) -> Fields:
    pairs = preference(batch)
    twice = pa.array(np.repeat(np.arange(len(batch)), 2))
    shared = {name: column.take(twice) for name, column in pairs.items() if name not in ("chosen", "rejected")}
    answers = alternate(pairs["chosen"], pairs["rejected"])
    label = pa.array(np.tile([True, False], len(batch)))
    return {"prompt": shared.pop("prompt"), "completion": answers, "label": label, **shared}


def alternate(first: pa.Array, second: pa.Array) -> pa.Array:
    """Return the values of both columns in turn: first, second, first, second, …"""
    if first.type == second.type:
        both = pa.concat_arrays([first, second])
    else:
        both = encode_conversations(decode_conversations(first) + decode_conversations(second))
    return both.take(pa.array(np.arange(len(both)).reshape(2, -1).T.ravel()))


def stepwise(batch: RenderableBatch) -> Fields:
    """`prompt`, `completions`, `labels`: process supervision, one label per step."""
    turns = batch.required("prompt")
    shown = turns if batch.renderer is None else pa.array(open_texts(batch, turns), pa.string())
    return {"prompt": shown, "completions": batch.required("completions"), "labels": batch.required("labels")}
