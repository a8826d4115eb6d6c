"""Write a chat template with exact `{% generation %}` tags.

The template is cut into pieces (see `pieces`). It renders conversations of every ordinary kind (`examples`) with a note
before each piece, so it is known which piece printed what, and the masks of these conversations (`masker`) say which of
that is trained. A piece that is always trained gets a tag, one that is trained for some messages a tag with a condition
that explains when: the message is the assistant's, the one before was, or an expression printed beside it is not empty.

The new template must print the same texts and have the same spans in all of these conversations. A piece that none of
them prints is not known; `TaggedTemplate.strict` refuses conversations that print it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from ...errors import RenderError, TemplateError
from ..masks.masker import STOP_LATE, WHOLE_TURNS, Masker
from ..masks.spans import together
from ..masks.turn_boundaries import missing_stop
from ..single import Chat, TemplateRenderer
from ..template.chat_template import GENERATION, ChatTemplate
from .conditions import Effort, branches_of, explain, plain_conditions, with_branches
from .examples import examples
from .observation import Example, Noted, Observations, Printed, Unexplained, with_text
from .pieces import Piece, quoted
from .writing import UNKNOWN, Decided, Trained, refusing, written

_WORD = re.compile("qx[0-9]+q")
_ODD_REASONING = re.compile(r"<think>\n(?!.+\n</think>)")
EFFORTS: tuple[Effort, ...] = ("plain", "branches", "state")
HEADS = 4
VALUE = "chatfmt_value"
RAISE = "raise_exception("
STAND_INS = {name: f"<|{name}|>" for name in ("bos_token", "eos_token")}
"""Values of special tokens for a template that comes without any; what it prints for them is tagged by name."""


class Untaggable(Struct, frozen=True):
    """The reason why a template gets no tags, and what helps."""

    reason: str
    hint: str = "`chatfmt convert --mask` finds the spans row by row"


class TaggedTemplate(Struct, frozen=True):
    """The text of a template with tags, and a text that raises where it prints what no example has printed."""

    text: str
    strict: str
    unknown: tuple[str, ...] = ()
    """What no example has printed, as it is written in the template, but for errors that it raises."""
    stopless: str = ""
    """That it prints no stop token after the last answer, as a sentence; empty if it prints one."""


NO_MASKS = "the masks of plain conversations are not known"
"""The reason why templates that do not print answers get no tags."""


def tag_template(renderer: TemplateRenderer) -> ChatTemplate | None:
    """Return the template with strict tags in those of its texts that have none; None if none of them gets any.

    A text that gets no tags refuses every conversation.
    """
    template = renderer.template
    found = {text: text if GENERATION.search(text) else _strict(renderer, text) for text in template.texts}
    if not any(map(GENERATION.search, found.values())):
        return None
    named = {name: found.get(text, text) for name, text in template.named.items()}
    return replace(template, text=found.get(template.text, template.text), named=named)


def training_template(renderer: TemplateRenderer) -> TaggedTemplate:
    """Return the template with tags, for trainers that ask transformers for its assistant masks.

    Raises TemplateError if it gets none.
    """
    text = renderer.template.choose()
    renderer = with_text(replace(renderer, template=with_stand_ins(renderer.template)), text)
    found = TaggedTemplate(text, text) if GENERATION.search(text) else tag(renderer)
    if isinstance(found, Untaggable):
        name, hint = renderer.template.name, found.hint
        if found.reason == NO_MASKS:
            hint = f"`chatfmt templates probe {shlex.quote(name)}` shows what it prints of an answer"
        message = f"the template `{name}` gets no `{{% generation %}}` tags: {found.reason}"
        raise TemplateError(message, hint=hint, code="template.train")
    return replace(found, stopless=missing_stop(renderer))


def with_stand_ins(template: ChatTemplate) -> ChatTemplate:
    """Return the template with STAND_INS for tokens that it lacks, to see where it prints them."""
    return replace(template, special_tokens={**STAND_INS, **template.special_tokens})


def _strict(renderer: TemplateRenderer, text: str) -> str:
    options = replace(renderer.options, bos="keep")  # what comes before a BOS token would hide it
    tagged = tag(replace(with_text(renderer, text), options=options))
    return tagged.strict if isinstance(tagged, TaggedTemplate) else refusing()


def tag(renderer: TemplateRenderer) -> TaggedTemplate | Untaggable:
    """Return the template of `renderer`, which has one text, with tags; or why it gets none."""
    masker, source = Masker(renderer, WHOLE_TURNS), renderer.template.text
    boundaries = masker.boundaries(Chat([]))
    if boundaries.stops_late:
        return Untaggable("a stop token is printed after the last answer only", STOP_LATE)
    known = list(_known_examples(masker, list(examples(source, boundaries.lead, boundaries.tools))))
    usual = [number for number, example in enumerate(known) if _is_usual(example.chat, source)]
    if not any(known[number].spans for number in usual):
        return Untaggable(NO_MASKS)
    first: Untaggable | None = None
    every, observations = range(len(known)), Observations(renderer, known)
    simpler = [[each for each in some if not _has_odd_reasoning(known[each].chat)] for some in (every, usual)]
    for efforts in (EFFORTS[:2], EFFORTS[2:]):
        for some in (every, *simpler):
            found = _tagged(renderer, observations, some, efforts)
            if isinstance(found, TaggedTemplate):
                return found
            first = first or found
    assert first is not None
    return first


def _has_odd_reasoning(chat: Chat) -> bool:
    """Return whether an answer has inline reasoning that is empty or not ended."""
    return any(isinstance(turn["content"], str) and _ODD_REASONING.match(turn["content"]) for turn in chat.messages)


def _is_usual(chat: Chat, source: str) -> bool:
    """Return whether a conversation does not begin with an answer, and has no calls that the template leaves out."""
    calls = any("tool_calls" in turn for turn in chat.messages)
    return chat.messages[0]["role"] != "assistant" and ("tool_calls" in source or not calls)


def _tagged(
    renderer: TemplateRenderer, observations: Observations, some: Sequence[int], efforts: Sequence[Effort]
) -> TaggedTemplate | Untaggable:
    """Return the template with tags that explain some of the examples, with the least effort that does so."""
    try:
        noted = observations.of(some, efforts[-1], whole=False)
    except Unexplained:
        try:
            noted = observations.of(some, efforts[-1], whole=True)
        except Unexplained as error:
            return Untaggable(str(error))
    known = [observations.known[number] for number in some]
    tries = list[TaggedTemplate | Untaggable]()
    for effort in efforts:
        tries.append(_explained(renderer, noted, known, effort))
        if isinstance(tries[-1], TaggedTemplate):
            return tries[-1]
    return tries[0]


def _explained(
    renderer: TemplateRenderer, noted: Sequence[Noted], known: Sequence[Example], effort: Effort
) -> TaggedTemplate | Untaggable:
    """Return the template with tags that explain what its pieces printed."""
    try:
        decisions = [list(_decide(note, effort)) for note in noted]
    except Unexplained as error:
        return Untaggable(str(error))
    used = branches_of(trained + piece.source for found in decisions for piece, trained in found)
    decided = [
        (part, trained)
        for number, found in enumerate(decisions)
        for piece, trained in found
        for part in with_branches(number, piece, used)
    ]
    unknown = [piece for piece, trained in decided if trained == "unknown" and not piece.source.startswith(RAISE)]
    tagged = TaggedTemplate(written(decided, strict=False), written(decided, strict=True), tuple(map(str, unknown)))
    for text in (tagged.strict, tagged.text):
        difference, refuses = _difference(with_text(renderer, text), known)
        if difference:
            return Untaggable(difference)
        if not refuses:  # so the other one does the same
            break
    return tagged


def _known_examples(masker: Masker, chats: Sequence[Chat]) -> Iterator[Example]:
    """Yield the conversations whose masks markers find."""
    plans, render = [masker.first_plan(chat) for chat in chats], masker.renderer.outcomes
    marked = render([plan.chat if plan else chat for chat, plan in zip(chats, plans, strict=True)])
    for chat, text, plan, printed in zip(chats, render(chats), plans, marked, strict=True):
        first = (plan, printed) if plan and isinstance(printed, str) else None
        try:
            rendered = isinstance(text, str)
            masked = masker.mask_rendered(chat, text, None, first) if rendered else masker.mask(chat)  # which raises
        except RenderError:
            continue
        answers = {number for number, turn in enumerate(chat.messages) if turn["role"] == "assistant"}
        silent = {number for number in answers - {*masked.messages} if _is_left_out(masker, chat, number, masked.text)}
        if masked.method == "markers" and answers <= silent | {*masked.messages} and _prints_answers(chat, masked.text):
            yield Example(chat, masked.text, masked.spans)
        if not answers and (text := masker.renderer.text_or_none(chat, generation_prompt=True)) is not None:
            yield Example(chat, text, (), prompt=True)


def _is_left_out(masker: Masker, chat: Chat, number: int, text: str) -> bool:
    """Return whether the template prints nothing of a blank answer."""
    turn = chat.messages[number]
    others = [*chat.messages[:number], *chat.messages[number + 1 :]]
    blank = turn.keys() == {"role", "content"} and not turn["content"]
    return blank and masker.renderer.text_or_none(chat.with_messages(others)) == text


def _prints_answers(chat: Chat, text: str) -> bool:
    """Return whether the template prints the answers, and not as a Python list or nothing at all."""
    words = _WORD.findall(str([turn["content"] for turn in chat.messages if turn["role"] == "assistant"]))
    return all(word in text.lower() for word in words[-1:]) and "'type': 'text'" not in text


def _decide(note: Noted, effort: Effort) -> Iterator[Decided]:
    """Yield a piece with when it is trained; a text is cut where that changes inside it."""
    if not note.piece.prints or note.piece.captured or (note.piece.kind, note.piece.source) == ("text", ""):
        yield note.piece, "no"
        return
    cuts = {n for each in note.printed for n in range(1, len(each.trained)) if each.trained[n] != each.trained[n - 1]}
    if cuts and note.piece.kind != "text":
        yield from _cut_value(note, effort)
        return
    bounds = [0, *sorted(cuts), len(note.piece.source)]
    for start, end in pairwise(bounds):
        text = note.piece.source[start:end] if cuts else note.piece.source
        seen = [(each.answers, each.trained[start]) for each in note.printed]
        yield replace(note.piece, source=text), _when(note, seen, effort)


def _cut_value(note: Noted, effort: Effort) -> Iterator[Decided]:
    """Yield pieces that print the value of an expression in parts, of which some are trained."""
    spoken = [each for each in note.printed if True in each.trained]
    if not all(all(each.trained[slice(*each.bounds)]) for each in spoken):
        raise _partly(note)
    yield Piece("tag", f"set {VALUE} = ({note.piece.source}) ~ ''"), "no"
    openings = {each.text[: each.bounds[1]] for each in spoken}
    if len(openings) == 1 and all(each.text.startswith(tuple(openings)) for each in note.printed):
        opening = openings.pop()
        seen = [(each.answers, each.trained[0]) for each in note.printed]
        yield Piece("text", opening), _when(note, seen, effort)
        yield Piece("expression", f"{VALUE}[{len(opening)}:]"), "no"
    else:
        yield from _without_ends(note, spoken, effort)


def _without_ends(note: Noted, spoken: Sequence[Printed], effort: Effort) -> Iterator[Decided]:
    """Yield pieces that print VALUE, without what it begins and ends with as trained text."""
    heads = sorted({each.text[: each.bounds[0]] for each in spoken if each.bounds[0]}, key=len, reverse=True)
    tails = {each.text[each.bounds[1] :] for each in spoken} - {""}
    tail = next(iter(tails), "")
    if len(tails) > 1 or len(heads) > HEADS or not all(each.text.endswith(tail) for each in spoken):
        raise _partly(note)
    groups = {head: [each for each in spoken if _head(each, heads) == head] for head in (*heads, "")}
    if any(each.bounds[0] not in (0, len(head)) for head, group in groups.items() for each in group):
        raise _partly(note)
    when = _when(note, [(each.answers, True in each.trained) for each in note.printed], effort)
    if when != "yes":
        yield Piece("tag", f"if {when}"), "no"
    for number, (head, group) in enumerate(groups.items()):
        condition = f"{'elif' if number else 'if'} {VALUE}.startswith({quoted(head)})" if head else "else"
        part = f"[{len(head) or ''}:{-len(tail) or ''}]" if head or tail else ""
        yield from [(Piece("tag", condition), "no")] if heads else []
        yield Piece("text", head), _when(note, [(each.answers, each.trained[0]) for each in group], effort)
        yield Piece("expression", VALUE + part), "yes"
        yield Piece("text", tail), _when(note, [(each.answers, each.trained[-1]) for each in group], effort)
    yield from [(Piece("tag", "endif"), "no")] if heads else []
    if when != "yes":
        yield from [(Piece("tag", "else"), "no"), (Piece("expression", VALUE), "no"), (Piece("tag", "endif"), "no")]


def _head(printed: Printed, heads: Sequence[str]) -> str:
    """Return the longest head with which the text begins; empty without one."""
    return next((head for head in heads if printed.text.startswith(head)), "")


def _partly(note: Noted) -> Unexplained:
    return Unexplained(f"only a part of what `{{{{ {note.piece.source} }}}}` prints is trained")


def _when(note: Noted, seen: Sequence[tuple[str, bool]], effort: Effort) -> Trained:
    """Return when a piece is trained that was, or was not, with these answers to its conditions."""
    found = {trained for _, trained in seen}
    if len(found) < 2:
        return "unknown" if not found else "yes" if True in found else "no"
    asked = len(plain_conditions(note.conditions)) if effort == "plain" else len(note.conditions)
    if explanation := explain([(answers[:asked], trained) for answers, trained in seen], effort):
        return explanation.written(note.conditions)
    raise Unexplained(f"it is not clear when `{note.piece}` is trained")


def _difference(tagged: TemplateRenderer, known: Sequence[Example]) -> tuple[str, bool]:
    """Return how the tagged template differs from what is known, empty if it does not, and if it refuses any of it."""
    refuses = False
    asked = [example for example in known if not example.prompt]
    for example, found in zip(asked, tagged.outcomes([each.chat for each in asked], spans=True), strict=False):
        if isinstance(found, Exception):
            if UNKNOWN in str(found):
                refuses = True
                continue
            return f"with tags it raises {type(found).__name__}", refuses
        text, spans = found
        if text != example.text:
            return "it prints another text with tags", refuses
        if tuple(together(spans)) != tuple(together(example.spans)):
            return "its tags do not mark what is trained", refuses
    return "", refuses
