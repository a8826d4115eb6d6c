"""Render conversations with a note before each piece of a template, and record which characters each piece printed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from ..single import Chat, TemplateRenderer
from ..template.chat_template import ChatTemplate
from ..types import Span
from .conditions import LAST_TRAINED, Effort, Explanation, branches_of, conditions, explain, with_branches
from .pieces import Piece, cut, joined

_NOTE, _NOTED, _END = "\U000f8000", "\U000f8001", "\U000f8002"
_NOTES = re.compile(f"{_NOTE}([0-9]+):([01]*){_NOTED}|{_END}")


class Unexplained(Exception):
    """The reason why it is not known what a piece prints or when it is trained."""


class Example(Struct, frozen=True):
    """A conversation, its rendered text, and its trained spans."""

    chat: Chat
    text: str
    spans: tuple[Span, ...]
    prompt: bool = False
    """Whether the text ends with the generation prompt."""


class Printed(Struct, frozen=True):
    """The output of a piece, once: the answers to its conditions, and which characters are trained."""

    answers: str
    text: str
    trained: tuple[bool, ...]

    @property
    def bounds(self) -> tuple[int, int]:
        """The start and end of the trained part; there is one."""
        return self.trained.index(True), len(self.trained) - self.trained[::-1].index(True)


Run = list[tuple[int, Printed]]
"""What the pieces printed in one example, in order, if only '': the number of the piece, and what it printed."""


class Noted(Struct):
    """A piece with the conditions that might explain when it is trained, and all that it has printed."""

    piece: Piece
    conditions: tuple[str, ...] = ()
    printed: list[Printed] = field(default_factory=list)


def with_text(renderer: TemplateRenderer, text: str) -> TemplateRenderer:
    """Return a renderer of another template text with the same special tokens."""
    return replace(renderer, template=ChatTemplate(renderer.template.name, text, renderer.template.special_tokens))


class Observations:
    """The output of a template's pieces in examples; each way of cutting and asking is rendered once, when needed.

    Conditions are asked for only where a piece prints both what is trained and what is not.
    """

    def __init__(self, renderer: TemplateRenderer, known: Sequence[Example]) -> None:
        self._renderer, self.known = renderer, known
        self._found: dict[tuple[bool, Effort | None], tuple[list[Noted], list[Run | None]]] = {}

    def of(self, some: Sequence[int], effort: Effort, *, whole: bool) -> list[Noted]:
        """Return the pieces of the template (see `cut`) and what they print in some of the examples.

        Raises Unexplained if the template prints differently in one of them when its pieces are printed one by one.
        """
        noted, every = self._runs(effort, whole)
        runs = [run for number in some if (run := every[number]) is not None]
        if len(runs) < len(some):
            raise Unexplained("the template prints differently when its pieces are printed one by one")
        found = [Noted(note.piece, note.conditions) for note in noted]
        for run in runs:
            for number, printed in run:
                found[number].printed += [printed] if printed.text else []
        if any(note.conditions[-1:] == (LAST_TRAINED,) for note in found):
            _add_last_trained(found, runs)
        return found

    def _runs(self, effort: Effort | None, whole: bool) -> tuple[list[Noted], list[Run | None]]:
        """Return the pieces with their conditions, and the run of each example; None where another text is printed."""
        if (whole, effort) not in self._found:
            source = self._renderer.template.text
            if effort is None:
                noted = [Noted(piece) for piece in cut(source, whole=whole)]
            else:
                plain, runs = self._runs(None, whole)
                pieces = [note.piece for note in plain]
                mixed = _mixed(runs)
                noted = [Noted(piece, conditions(number, pieces, source, effort) if number in mixed else ())
                         for number, piece in enumerate(pieces)]  # fmt: skip
            noting = with_text(self._renderer, _with_notes(noted))
            self._found[whole, effort] = noted, list(_observe(noting, self.known))
        return self._found[whole, effort]


def _mixed(runs: Iterable[Run | None]) -> set[int]:
    """Return the numbers of the pieces that print both what is trained and what is not."""
    found: dict[int, set[bool]] = {}
    for run in runs:
        for number, printed in run or ():
            found.setdefault(number, set()).update(printed.trained)
    return {number for number, trained in found.items() if len(trained) > 1}


def _observe(noting: TemplateRenderer, known: Sequence[Example]) -> Iterator[Run | None]:
    """Yield what each piece prints in an example; None if the template with notes prints another text."""
    texts = noting.outcomes([example.chat for example in known if not example.prompt])
    for example in known:
        text = noting.text_or_none(example.chat, generation_prompt=True) if example.prompt else next(texts)
        yield _run(text, example) if isinstance(text, str) and _NOTES.sub("", text) == example.text else None


def _with_notes(noted: Sequence[Noted]) -> str:
    """Return the template with a note before and after each piece: its number, and the answers to its conditions."""
    lines: list[Piece] = []
    asked = branches_of(condition for note in noted for condition in note.conditions)
    for number, note in enumerate(noted):
        if not note.piece.prints or note.piece.captured:
            lines += with_branches(number, note.piece, asked)
            continue
        asking = (condition for condition in note.conditions if condition != LAST_TRAINED)
        answers = "".join(f" ~ ('1' if {condition} else '0')" for condition in asking)
        lines.append(Piece("expression", f"'{_NOTE}{number}:'{answers} ~ '{_NOTED}'"))
        lines += [note.piece, Piece("text", _END)]
    return joined(lines)


def _run(text: str, example: Example) -> Run:
    """Return what a rendered text with notes says."""
    trained = [False] * len(example.text)
    for start, end in example.spans:
        trained[start:end] = [True] * (end - start)
    length = last = begun = 0
    number, answers, found = -1, "", Run()
    for match in _NOTES.finditer(text):
        length += match.start() - last
        last = match.end()
        if match[1] is not None:
            number, answers, begun = int(match[1]), match[2], length
        else:
            found.append((number, Printed(answers, example.text[begun:length], tuple(trained[begun:length]))))
    return found


def _add_last_trained(noted: Sequence[Noted], runs: Iterable[Run]) -> None:
    """Add the answer to LAST_TRAINED to all that was printed. Of a piece that prints '' it is told when it would be."""
    explained = [_explanation(note) for note in noted]
    for note in noted:
        note.printed.clear()
    for run in runs:
        last = False
        for number, printed in run:
            if printed.text:
                noted[number].printed.append(replace(printed, answers=printed.answers + "01"[last]))
                last = printed.trained[-1]
            elif (trained := explained[number]) is not None:
                last = trained(printed.answers) if isinstance(trained, Explanation) else trained


def _explanation(note: Noted) -> Explanation | bool | None:
    """Return when what a piece prints is trained, as far as that depends on the messages."""
    found = {each.trained[-1] for each in note.printed}
    if len(found) < 2:
        return next(iter(found), None)
    return explain([(each.answers, each.trained[-1]) for each in note.printed], "branches")
