"""Views: the shapes of training data that `--to` writes, one entry each in VIEWS.

The dataset types and their columns are TRL's (docs, "Dataset formats and types"): language modelling `text` or
`messages`, `prompt`, `prompt` + `completion`, `prompt` + `chosen` + `rejected`, `prompt` + `completion` + `label`,
stepwise `prompt` + `completions` + `labels`; `segments` are those of axolotl's template-free format.

No view drops a turn unless the user asked for it by name (`rejected` of a preference, with `--to text`). The functions
are imported on first use, so that help can list the views without importing Arrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from ..errors import UnknownName
from ..lazy import on_call

if TYPE_CHECKING:
    from .batch import Fields, RenderableBatch


class View(Struct, frozen=True):
    """One entry of VIEWS: the function that makes the columns, and their properties that other stages need."""

    fields: Callable[[RenderableBatch], Fields]
    summary: str
    columns: tuple[str, ...] = ()
    """The names of its columns."""
    own_type: str = ""
    """The dataset type that becomes this view with `--to auto`."""
    beside: str = ""
    """The column of that type beside its one conversation, which a view without such a column leaves out."""
    unpairs: bool = False
    """Whether a pair of answers becomes two rows, which are written in blocks; see `pipeline.conversion.blocks`."""
    is_rendered: bool = False
    """Whether rows of that type are text already, which no template changes."""
    takes_mask: bool = False
    """Whether `--mask` adds the column `assistant_spans`."""
    needs_spans: bool = False
    """Whether the columns are made from the spans of trained text, also without `--mask`."""
    is_tokenized: bool = False
    """Whether token ids, labels and masks replace `text` and `assistant_spans`; needs a tokenizer."""
    reads: str = ""
    """The column of the source that it reads beside the conversation, if it is there: it needs no `--keep`."""
    reads_truth: bool = False
    """Whether it also reads a ground truth: the first of `schema.TRUTHS` that is there."""


VIEWS: dict[str, View] = {
    "text": View(
        on_call(__name__, ".whole:text"), "the rendered conversation",
        ("text",), "text", is_rendered=True, takes_mask=True,
    ),
    "messages": View(
        on_call(__name__, ".whole:messages"), "the conversation as a list of turns", ("messages",)
    ),
    "prompt-completion": View(
        on_call(__name__, ".split:prompt_completion"), "the last answer and what comes before it",
        ("prompt", "completion"), "prompt-completion",
    ),
    "instruction": View(
        on_call(__name__, ".split:instruction"), "an instruction and its output, as text", ("instruction", "output")
    ),
    "prompt": View(
        on_call(__name__, ".split:prompt"), "the conversation before the last answer", ("prompt",), "prompt-only"
    ),
    "preference": View(
        on_call(__name__, ".split:preference"), "a prompt, a better and a worse answer",
        ("prompt", "chosen", "rejected"), "preference", "rejected",
    ),
    "unpaired-preference": View(
        on_call(__name__, ".split:unpaired_preference"), "a prompt, an answer, and whether it is good",
        ("prompt", "completion", "label"), "unpaired-preference", "label", unpairs=True,
    ),
    "preference-conversations": View(
        on_call(__name__, ".pairs:conversations"), "two whole conversations, with a better and a worse answer",
        ("chosen", "rejected"), beside="rejected",
    ),
    "preference-messages": View(
        on_call(__name__, ".pairs:single_messages"), "a conversation, and a better and a worse next message",
        ("messages", "chosen", "rejected"), beside="rejected",
    ),
    "rejected-response": View(
        on_call(__name__, ".pairs:rejected_response"), "a conversation, and the text of a worse answer",
        ("messages", "rejected_response"), beside="rejected",
    ),
    "unpaired-messages": View(
        on_call(__name__, ".pairs:unpaired_messages"), "a conversation, and whether its answer is good",
        ("messages", "label"), beside="label", unpairs=True,
    ),
    "openai-preference": View(
        on_call(__name__, ".pairs:openai"), "OpenAI's input, preferred and non-preferred output",
        ("input", "preferred_output", "non_preferred_output"), beside="rejected",
    ),
    "ranked-completions": View(
        on_call(__name__, ".pairs:ranked"), "a context, and its completions with their ranks",
        ("context", "completions"), beside="rejected",
    ),
    "rlvr": View(
        on_call(__name__, ".rlvr:messages"), "a prompt as messages, with its ground truth and verifier", ("messages",),
        reads="dataset", reads_truth=True,
    ),
    "rlvr-prompt": View(
        on_call(__name__, ".rlvr:prompts"), "a prompt, with verl's reward model and data source", ("prompt",),
        reads="data_source", reads_truth=True,
    ),
    "rlvr-text": View(
        on_call(__name__, ".rlvr:texts"), "the text of a question, and its ground truth", ("input", "output"),
        reads_truth=True,
    ),
    "alpaca": View(
        on_call(__name__, ".forms:alpaca"), "LLaMA-Factory's and Axolotl's columns for an instruction and its output",
        ("instruction", "input", "output", "system", "history"),
    ),
    "sharegpt": View(
        on_call(__name__, ".forms:sharegpt"), "ShareGPT's turns of `from` and `value`", ("conversations", "tools")
    ),
    "openai": View(
        on_call(__name__, ".forms:openai"), "OpenAI's messages and tools", ("messages", "tools")
    ),
    "segments": View(
        on_call(__name__, ".whole:segments"), "the rendered conversation in pieces, each trained or not",
        ("segments",), "segments", is_rendered=True, needs_spans=True,
    ),
    "stepwise": View(
        on_call(__name__, ".split:stepwise"), "a prompt, the steps of an answer, and whether each is right",
        ("prompt", "completions", "labels"), "stepwise", "labels",
    ),
    "tokens": View(
        on_call(__name__, ".whole:tokens"), "token ids, labels and masks", needs_spans=True, is_tokenized=True
    ),
}  # fmt: skip
"""The views by name, in the order of the help."""


INPUTS = ("tools", "documents", "chat_template_kwargs")
"""The columns beside conversations that are not rendered, from which a trainer renders them."""


def written_columns(name: str, *, rendered: bool) -> tuple[str, ...]:
    """Return the names of the columns that a view may write, with a template or without."""
    return VIEWS[name].columns if rendered else (*VIEWS[name].columns, *INPUTS)


def own_view(data_type: str) -> View | None:
    """The view of a dataset type; None for language modelling, whose view depends on the template."""
    return next((view for view in VIEWS.values() if view.own_type == data_type), None)


def is_rendered(data_type: str) -> bool:
    """Return whether rows of a dataset type are text already, which no template changes."""
    view = own_view(data_type)
    return view is not None and view.is_rendered


def choose(to: str, data_type: str, *, rendered: bool) -> str:
    """The name of the view that `--to` means for data of that type; raises UnknownName for an unknown view."""
    if to == "auto":
        own = [name for name, view in VIEWS.items() if view.own_type == data_type]
        return own[0] if own else "text" if rendered else "messages"
    if to not in VIEWS:
        raise UnknownName.of("view", to, ["auto", *VIEWS])
    return to
