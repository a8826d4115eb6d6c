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
from collections.abc import Container, Iterator, Sequence
from itertools import combinations, groupby, pairwise, product
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from ...errors import RenderError, TemplateError
from ..masks.masker import WHOLE_TURNS, Masker, together
from ..single import Chat, TemplateRenderer
from ..template.chat_template import GENERATION, ChatTemplate
from ..types import Span
from .examples import examples
from .pieces import Piece, cut, joined, quoted

NOTE, NOTED, END = "\U000f8000", "\U000f8001", "\U000f8002"
_NOTES = re.compile(f"{NOTE}([0-9]+):([01]*){NOTED}|{END}")
_WORD = re.compile("qx[0-9]+q")
_HAS_ROLE = re.compile(r"\b([A-Za-z_]\w*)(?:\.role|\[['\"]role['\"]\])")
_IS_ROLE = re.compile(r"\b([A-Za-z_]\w*) == ['\"]assistant['\"]")
_SCOPED = re.compile(r"(?:set|break|continue|macro|call|filter|with)\b")
UNKNOWN = "chatfmt does not know whether this is trained"
SIBLINGS = 8
CHOICES = 12
BRANCH = "chatfmt_branch_"
_BRANCH = re.compile(f"{BRANCH}[0-9]+")
HEADS = 4
VALUE = "chatfmt_value"

Trained = Literal["yes", "no", "unknown"] | str
"""Whether a piece is trained; any other text is the condition under which it is."""


class Untaggable(Struct, frozen=True):
    """The reason why a template gets no tags."""

    reason: str


class TaggedTemplate(Struct, frozen=True):
    """The text of a template with tags, and a text that raises where it prints what no example has printed."""

    text: str
    strict: str
    unknown: tuple[str, ...] = ()
    """What no example has printed, as it is written in the template."""


class Example(Struct, frozen=True):
    """A conversation, its rendered text, and its trained spans."""

    chat: Chat
    text: str
    spans: tuple[Span, ...]
    prompt: bool = False
    """Whether the text ends with the generation prompt."""


class Printed(Struct, frozen=True):
    """What a piece has printed once: the answers to its conditions, and which characters are trained."""

    answers: str
    text: str
    trained: tuple[bool, ...]

    @property
    def bounds(self) -> tuple[int, int]:
        """Where the trained part begins and ends; there is one."""
        return self.trained.index(True), len(self.trained) - self.trained[::-1].index(True)


class _Noted(Struct):
    """A piece with the conditions that might explain when it is trained, and all that it has printed."""

    piece: Piece
    conditions: tuple[str, ...] = ()
    printed: list[Printed] = field(default_factory=list)


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
    if GENERATION.search(text := renderer.template.choose()):
        return TaggedTemplate(text, text)
    found = tag(_with_text(renderer, text))
    if isinstance(found, Untaggable):
        message = f"the template `{renderer.template.name}` gets no `{{% generation %}}` tags: {found.reason}"
        raise TemplateError(message, hint="`chatfmt convert --mask` finds the spans row by row", code="template.train")
    return found


def _strict(renderer: TemplateRenderer, text: str) -> str:
    options = replace(renderer.options, bos="keep")  # what comes before a BOS token would hide it
    tagged = tag(replace(_with_text(renderer, text), options=options))
    return tagged.strict if isinstance(tagged, TaggedTemplate) else joined([_refusal(Piece("text", "x"))])


def tag(renderer: TemplateRenderer) -> TaggedTemplate | Untaggable:
    """Return the template of `renderer`, which has one text, with tags; or why it gets none."""
    masker, source = Masker(renderer, WHOLE_TURNS), renderer.template.text
    boundaries = masker.boundaries(Chat([]))
    if boundaries.stops_late:
        return Untaggable("a stop token is printed after the last answer only")
    known = list(_known_examples(masker, examples(source, boundaries.lead, boundaries.tools)))
    usual = [example for example in known if example.chat.messages[0]["role"] != "assistant"]
    if not any(example.spans for example in usual):
        return Untaggable("the masks of plain conversations are not known")
    tries = (_tagged(renderer, some, chosen) for some, chosen in product((known, usual), (False, True)))
    first = next(tries)
    return (
        first if isinstance(first, TaggedTemplate) else next((x for x in tries if isinstance(x, TaggedTemplate)), first)
    )


def _tagged(renderer: TemplateRenderer, known: Sequence[Example], chosen: bool) -> TaggedTemplate | Untaggable:
    """Return the template with tags that explain the examples."""
    source = renderer.template.text
    pieces = cut(source)
    try:
        noted = [_Noted(piece, _conditions(piece, source, pieces, chosen)) for piece in pieces]
        _observe(renderer, noted, known)
        decisions = [list(_decide(note)) for note in noted]
    except _Unexplained as error:
        return Untaggable(str(error))
    used = {name for found in decisions for each in found for name in _BRANCH.findall(each[1] + each[0].source)}
    decided = [
        (part, trained)
        for number, found in enumerate(decisions)
        for piece, trained in found
        for part in _with_branches(number, piece, used)
    ]
    unknown = tuple(str(piece) for piece, trained in decided if trained == "unknown")
    tagged = TaggedTemplate(_written(decided, strict=False), _written(decided, strict=True), unknown)
    for text in (tagged.text, tagged.strict):
        if difference := _difference(_with_text(renderer, text), known):
            return Untaggable(difference)
    return tagged


class _Unexplained(Exception):
    """No condition explains when a piece is trained."""


def _known_examples(masker: Masker, chats: Iterator[Chat]) -> Iterator[Example]:
    """Yield the conversations whose masks markers find."""
    for chat in chats:
        try:
            masked = masker.mask(chat)
        except RenderError:
            continue
        answers = {number for number, turn in enumerate(chat.messages) if turn["role"] == "assistant"}
        if masked.method == "markers" and answers <= {*masked.messages} and _prints_answers(chat, masked.text):
            yield Example(chat, masked.text, masked.spans)
        if not answers and (text := masker.renderer.text_or_none(chat, generation_prompt=True)) is not None:
            yield Example(chat, text, (), prompt=True)


def _prints_answers(chat: Chat, text: str) -> bool:
    """Return whether the template prints the answers, and not as a Python list or nothing at all."""
    words = _WORD.findall(str([turn["content"] for turn in chat.messages if turn["role"] == "assistant"]))
    return all(word in text for word in words[-1:]) and "'type'" not in text


def _conditions(piece: Piece, source: str, pieces: Sequence[Piece], chosen: bool) -> tuple[str, ...]:
    """Return Jinja conditions that may explain when a piece is trained; with `chosen`, those of choices before it."""
    if not piece.prints or piece.captured:
        return ()
    messages = dict.fromkeys((*reversed(piece.messages), *_HAS_ROLE.findall(source)))
    if piece.messages:
        messages |= {"loop.previtem": None}
    roles = [f"{name} is mapping and {name}.role == 'assistant'" for name in messages]
    places = (
        ["not loop.first", *(f"{name} is mapping and {name}.content" for name in messages)] if piece.messages else []
    )
    names = [f"{name} is defined and {name} == 'assistant'" for name in dict.fromkeys(_IS_ROLE.findall(source))]
    filled = [f"({other}) ~ ''" for other in _beside(piece, pieces)]
    return (*roles, *names, *filled, *places, *(_choices(piece, pieces) if chosen else ()))


def _choices(piece: Piece, pieces: Sequence[Piece]) -> list[str]:
    """Return the conditions that a branch before the piece was taken, for the last branches in the loop around it."""
    place = next(number for number, other in enumerate(pieces) if other is piece)
    loop = max((n for n in range(place) if pieces[n].source.startswith("for ") and not pieces[n].prints), default=0)
    found = [f"{BRANCH}{n} is defined" for n in range(loop, place) if _is_branch(pieces[n])]
    return found[::-1][:CHOICES]


def _is_branch(piece: Piece) -> bool:
    return not piece.prints and piece.source.startswith(("if ", "elif ", "else"))


def _with_branches(number: int, piece: Piece, wanted: Container[str]) -> list[Piece]:
    """Return a piece, with a variable that says that its branch was taken, if a condition reads it."""
    name = f"{BRANCH}{number}"
    return [piece, Piece("tag", f"set {name} = true")] if _is_branch(piece) and name in wanted else [piece]


def _beside(piece: Piece, pieces: Sequence[Piece]) -> list[str]:
    """Return the expressions printed in one go with a piece, without a tag between."""
    place = next(number for number, other in enumerate(pieces) if other is piece)
    first = max((n for n in range(place) if not pieces[n].prints), default=-1) + 1
    last = next((n for n in range(place, len(pieces)) if not pieces[n].prints), len(pieces))
    found = [other.source for other in pieces[first:last] if other.kind == "expression" and other is not piece]
    return list(dict.fromkeys(found))[:SIBLINGS]


def _observe(renderer: TemplateRenderer, noted: Sequence[_Noted], known: Sequence[Example]) -> None:
    """Render the examples with notes, and record what each piece prints."""
    lines: list[Piece] = []
    asked = {name for note in noted for condition in note.conditions for name in _BRANCH.findall(condition)}
    for number, note in enumerate(noted):
        if not note.piece.prints or note.piece.captured:
            lines += _with_branches(number, note.piece, asked)
            continue
        answers = "".join(f" ~ ('1' if {condition} else '0')" for condition in note.conditions)
        lines.append(Piece("expression", f"'{NOTE}{number}:'{answers} ~ '{NOTED}'"))
        lines += [note.piece, Piece("text", END)]
    noting = _with_text(renderer, joined(lines))
    for example in known:
        text = noting.text_or_none(example.chat, generation_prompt=example.prompt or None)
        if text is None or _NOTES.sub("", text) != example.text:
            raise _Unexplained("the template prints differently when its pieces are printed one by one")
        _record(text, example, noted)


def _record(text: str, example: Example, noted: Sequence[_Noted]) -> None:
    trained = [False] * len(example.text)
    for start, end in example.spans:
        trained[start:end] = [True] * (end - start)
    length = last = begun = 0
    number, answers = -1, ""
    for match in _NOTES.finditer(text):
        length += match.start() - last
        last = match.end()
        if match[1] is not None:
            number, answers, begun = int(match[1]), match[2], length
        elif length > begun:
            noted[number].printed.append(Printed(answers, example.text[begun:length], tuple(trained[begun:length])))


def _decide(note: _Noted) -> Iterator[tuple[Piece, Trained]]:
    """Yield a piece with when it is trained; a text is cut where that changes inside it."""
    if not note.piece.prints or note.piece.captured:
        yield note.piece, "no"
        return
    cuts = {n for each in note.printed for n in range(1, len(each.trained)) if each.trained[n] != each.trained[n - 1]}
    if cuts and note.piece.kind != "text":
        yield from _cut_value(note)
        return
    bounds = [0, *sorted(cuts), len(note.piece.source)]
    for start, end in pairwise(bounds):
        text = note.piece.source[start:end] if cuts else note.piece.source
        seen = [(each.answers, each.trained[start]) for each in note.printed]
        yield replace(note.piece, source=text), _when(note, seen)


def _cut_value(note: _Noted) -> Iterator[tuple[Piece, Trained]]:
    """Yield pieces that print the value of an expression in parts: what it begins with is not trained, the rest is."""
    spoken = [each for each in note.printed if True in each.trained]
    parts = {each: each.bounds for each in spoken}
    heads = sorted({each.text[:start] for each, (start, _) in parts.items() if start}, key=len, reverse=True)
    tails = {each.text[end:] for each, (_, end) in parts.items()}
    head_of = {each: next((head for head in heads if each.text.startswith(head)), "") for each in spoken}
    whole = all(all(each.trained[slice(*bounds)]) for each, bounds in parts.items())
    if (
        len(tails) > 1
        or len(heads) > HEADS
        or not whole
        or any(len(head_of[each]) != parts[each][0] for each in spoken)
    ):
        raise _Unexplained(f"only a part of what `{{{{ {note.piece.source} }}}}` prints is trained")
    when, tail = _when(note, [(each.answers, True in each.trained) for each in note.printed]), tails.pop()
    yield Piece("tag", f"set {VALUE} = ({note.piece.source}) ~ ''"), "no"
    if when != "yes":
        yield Piece("tag", f"if {when}"), "no"
    for number, head in enumerate((*heads, "")):
        condition = f"{'elif' if number else 'if'} {VALUE}.startswith({quoted(head)})" if head else "else"
        part = f"[{len(head) or ''}:{-len(tail) or ''}]" if head or tail else ""
        yield from [(Piece("tag", condition), "no")] if heads else []
        yield Piece("text", head), "no"
        yield Piece("expression", VALUE + part), "yes"
        yield Piece("text", tail), "no"
    yield from [(Piece("tag", "endif"), "no")] if heads else []
    if when != "yes":
        yield from [(Piece("tag", "else"), "no"), (Piece("expression", VALUE), "no"), (Piece("tag", "endif"), "no")]


def _when(note: _Noted, seen: Sequence[tuple[str, bool]]) -> Trained:
    """Return when a piece is trained that was, or was not, with these answers to its conditions."""
    found = {trained for _, trained in seen}
    if len(found) < 2:
        return "unknown" if not found else "yes" if True in found else "no"
    distinct = set(seen)
    for size, join, word in ((1, all, ""), (2, all, " and "), (2, any, " or ")):
        for chosen in combinations(range(len(note.conditions)), size):
            if all(join(answers[n] == "1" for n in chosen) is trained for answers, trained in distinct):
                conditions = [note.conditions[n] for n in chosen]
                return conditions[0] if size == 1 else word.join(f"({condition})" for condition in conditions)
    raise _Unexplained(f"it is not clear when `{note.piece}` is trained")


def _written(decided: Sequence[tuple[Piece, Trained]], *, strict: bool) -> str:
    """Return the template with tags around what is trained."""
    lines: list[Piece] = []
    for trained, run in groupby(_widened(decided), key=lambda each: each[1]):
        own = [piece for piece, _ in run]
        if trained == "unknown" and strict:
            lines += [_refusal(piece) for piece in own]
        elif trained == "yes":
            lines += _generation(own)
        elif trained in ("no", "unknown"):
            lines += own
        else:
            lines += [
                Piece("tag", f"if {trained}"),
                *_generation(own),
                Piece("tag", "else"),
                *own,
                Piece("tag", "endif"),
            ]
    return joined(lines)


def _generation(pieces: Sequence[Piece]) -> list[Piece]:
    return [Piece("tag", "generation"), *pieces, Piece("tag", "endgeneration")]


def _refusal(piece: Piece) -> Piece:
    """Return an expression that raises if the piece would print anything."""
    condition = f" if ({piece.source}) ~ ''" if piece.kind == "expression" else ""
    return Piece("expression", f"raise_exception('{UNKNOWN}'){condition}")


def _widened(decided: Sequence[tuple[Piece, Trained]]) -> list[tuple[Piece, Trained]]:
    """Return the pieces, with tags marked as trained whose block prints trained pieces only, between trained pieces.

    A block with `set` stays outside: what is set inside `{% generation %}` is unknown behind it.
    """
    found = list(decided)
    ends = _block_ends([piece for piece, _ in found])
    for start in sorted(ends, reverse=True):
        block = found[start : ends[start] + 1]
        inner = [trained for piece, trained in block if piece.prints]
        sound = not any(_SCOPED.match(piece.source) for piece, _ in block if not piece.prints)
        before = found[start - 1][1] if start else "no"
        if sound and "yes" in inner and set(inner) <= {"yes"} and before in ("yes", "no"):
            found[start : ends[start] + 1] = [(piece, "yes") for piece, _ in block]
    return found


def _block_ends(pieces: Sequence[Piece]) -> dict[int, int]:
    """Return the places of the tags that open a loop or a choice, each with the place of the tag that closes it."""
    found: dict[int, int] = {}
    waiting: list[int] = []
    for place, piece in enumerate(pieces):
        word = "" if piece.prints else piece.source.split(None, 1)[0]
        if word in ("for", "if"):
            waiting.append(place)
        elif word in ("endfor", "endif") and waiting:
            found[waiting.pop()] = place
    return found


def _difference(tagged: TemplateRenderer, known: Sequence[Example]) -> str:
    """Return how the tagged template differs from what is known; empty if it does not, or refuses the conversation."""
    for example in known:
        if example.prompt:
            continue
        try:
            text, spans = tagged.tracked(example.chat)
        except Exception as error:
            if UNKNOWN in str(error):
                continue
            return f"with tags it raises {type(error).__name__}"
        if text != example.text:
            return "it prints another text with tags"
        if tuple(together(spans)) != tuple(together(example.spans)):
            return "its tags do not mark what is trained"
    return ""


def _with_text(renderer: TemplateRenderer, text: str) -> TemplateRenderer:
    return replace(renderer, template=ChatTemplate(renderer.template.name, text, renderer.template.special_tokens))
