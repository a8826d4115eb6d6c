"""Hints of what to type for rows with several answers: which columns are the better and the worse one."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ...field_path import expression_for, value_at
from ..kit.columns import SourceRow, columns_named
from ..kit.literals import are_objects, are_texts, read_literal
from ..kit.names import COMPLETIONS
from ..preference.chosen_rejected import CHOSEN, REJECTED


def pair_hint(record: SourceRow) -> str | None:
    """Hint for two answers without a column that is clearly the prompt, or of different types."""
    pair = [next(iter(columns_named(record, names)), None) for names in (CHOSEN, REJECTED)]
    if None in pair:
        return None
    sides = dict(zip(("chosen", "rejected"), filter(None, pair), strict=True))
    lists = {part: name for part, name in sides.items() if isinstance(record[name], list) and record[name]}
    turns = {part: name for part, name in lists.items() if isinstance(record[name][-1], Mapping)}
    if len(turns) == 1:
        flags = " ".join(f"--map {part}={shlex.quote(f'{name}[-1].content')}" for part, name in turns.items())
        return f"one of the answers is text, and the other turns: {flags} reads the text of the last one"
    if lists and not turns:
        flags = " ".join(f"--map {part}={shlex.quote(f'{name}[0]')}" for part, name in lists.items())
        return f"answers are in lists: {flags} reads the first of each"
    return (
        "map the prompt of both answers with --map prompt=COLUMN; "
        "or --dialect-option prompt=shared if both begin with it"
    )


_OPPOSITES = {
    "accepted": "rejected", "chosen": "rejected", "preferred": "dispreferred", "winner": "loser", "winning": "losing",
    "win": "lose", "better": "worse", "best": "worst", "good": "bad", "positive": "negative", "w": "l",
    "pos": "neg", "positives": "negatives",
}  # fmt: skip


def opposites_hint(answers: Sequence[str], record: SourceRow) -> str | None:
    """Hint for two answers whose names say that one is better and the other worse."""
    if (pair := opposites(answers)) is None:
        return None
    first = [f"{name}[0]" if are_texts(value_at(record, name)) else name for name in pair]
    flags = f"--map chosen={shlex.quote(first[0])} --map rejected={shlex.quote(first[1])}"
    return f"`{pair[0]}` could be the better and `{pair[1]}` the worse of two answers: {flags}"


def opposites(answers: Iterable[str]) -> tuple[str, str] | None:
    """Return two columns whose names differ in a word for a better and one for a worse answer, in that order."""
    names = {tuple(re.split(r"[\W_]+", name.lower())): name for name in answers}
    pairs = (
        (name, names.get(tuple(_OPPOSITES.get(word, word) for word in words), name)) for words, name in names.items()
    )
    return next(((better, worse) for better, worse in pairs if better != worse), None)


_CHOICE = frozenset({
    "preferred", "preference", "best", "better", "safer", "chosen", "winner", "selected", "label", "choice",
    "comparison", "verdict", "vote",
})  # fmt: skip
"""Words in the name of a column that says which answer is the best."""
_SCORES = _CHOICE | {"score", "rating", "reward"}
"""Words in the names of columns that say how good each of two answers is."""


def several_answers_hint(answers: str, names: Sequence[str]) -> str:
    """Hint for answers in a list, whose order may be their ranking if no column says which is the best."""
    if choice := next((name for name in names if has_word(name, _CHOICE | {"ranking", "labels"})), None):
        flags = f"--map chosen='{{{{ {answers}[INDEX] }}}}' --map rejected='{{{{ {answers}[INDEX] }}}}'"
        return f"`{answers}` holds several answers, and `{choice}` could say which is the best: {flags}"
    flag = "--dialect-option ranked=best-first"
    return f"`{answers}` holds several answers without scores: {flag} if the first is the best"


def two_answers_hint(answers: Sequence[str], names: Sequence[str], records: Sequence[SourceRow]) -> str | None:
    """Hint for two answers, one of which other columns call the better; it leaves out rows in which neither is."""
    flags = _one_of_two(names, _SCORES)  # one for each answer, such as `winner_a` and `winner_b`
    choice = flags[0] if flags else next((name for name in names if has_word(name, _CHOICE)), None)
    if (pair := _one_of_two(answers, ANSWER_WORDS)) is None:
        return None
    values = [record.get(name) or "" for record in records[:50] for name in pair]
    if not all(isinstance(read_literal(value), str) or are_objects(value) for value in values):
        return None  # lists of texts, or lists or turns as text
    if choice is None:
        mapped = f"--map chosen={shlex.quote(pair[0])} --map rejected={shlex.quote(pair[1])}"
        return f"`{pair[0]}` and `{pair[1]}` are two answers: if the first is always the better one, {mapped}"
    if flags:
        texts_of = [record[name] for record in records for name in flags if isinstance(record.get(name), str)]
        cast = "|float" if any(map(_NUMBER.fullmatch, texts_of)) else ""  # as text, 10 is less than 9
        where, is_first = (f"{_value(flags[0])}{cast} {sign} {_value(flags[1])}{cast}" for sign in ("!=", ">"))
    else:
        chosen = [record.get(choice) for record in records]
        first, second = (_values_for(one, other, chosen) for one, other in (pair, pair[::-1]))
        first = [] if _is_scale(chosen, [*first, *second]) else first
        where = f"{_value(choice)} in {json.dumps([*first, *second]) if first else '[VALUE_OF_FIRST, VALUE_OF_SECOND]'}"
        is_first = f"{_value(choice)} in {json.dumps(first) if first else '[VALUE_OF_FIRST]'}"
    opening, closing = ("{{ (", ") | tojson }}") if any(map(are_objects, values)) else ("{{ ", " }}")
    better, worse = (
        f"{opening}{_value(one)} if {is_first} else {_value(other)}{closing}" for one, other in (pair, pair[::-1])
    )
    mapped = f"--where {shlex.quote(where)} --map chosen={shlex.quote(better)} --map rejected={shlex.quote(worse)}"
    return f"`{pair[0]}` and `{pair[1]}` are two answers, and `{choice}` could say which is the best: {mapped}"


def has_word(name: str, words: Container[str]) -> bool:
    """Return whether the name of a column has one of the words."""
    return any(word in words for word in re.split(r"[\W_]+", name.lower()))


ANSWER_WORDS = frozenset({*COMPLETIONS, "reply"} - {"targets", "target", "message_2"})
_LAST = re.compile(r"(.*?)[\W_]?([ab012])$", re.IGNORECASE)


def _one_of_two(names: Sequence[str], words: Container[str]) -> tuple[str, str] | None:
    """Return two columns with one of the words in their names, which differ in a last letter or digit."""
    for pair in pairwise(names):
        stems = [match[1].lower() for name in pair if (match := _LAST.match(name))]
        if len(stems) == 2 and stems[0] == stems[1] and has_word(stems[0], words):
            return pair
    return None


def _values_for(answer: str, other: str, values: Sequence[Any]) -> list[Any]:
    """Return the values that name an answer: its column or last letter, also with a word before it, as in `model_a`.

    Those that name the other answer are followed by the same with the letter of this one.
    """

    def naming(name: str) -> list[Any]:
        words = (word + sep for word in (*ANSWER_WORDS, *_SPEAKERS) for sep in ("", "_", "-", " "))
        known = {stem + name[-1].lower() for stem in ("", name[:-1].lower(), *words)}
        return [value for value in values if type(value) in (str, int) and str(value).lower() in known]

    def turned(value: Any) -> Any:
        letter = answer[-1].upper() if str(value)[-1].isupper() else answer[-1].lower()
        return type(value)(str(value)[:-1] + letter)

    return list(dict.fromkeys([*naming(answer), *map(turned, naming(other))]))


def _is_scale(values: Sequence[Any], known: Sequence[Any]) -> bool:
    """Return whether numbers may say how much better an answer is, or count from 0: some do not name an answer.

    0 may say that neither is better only beside 1 and 2.
    """
    others = {str(value) for value in values if value is not None and value not in known}
    numbers = set(filter(_NUMBER.fullmatch, others))
    return bool(numbers) and (numbers != {"0"} or not {"1", "2"} <= {*map(str, values)})


_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_SPEAKERS = ("model", "assistant", "option", "candidate")


def _value(column: str) -> str:
    """Return the expression for the value of a column."""
    return expression_for(column, (column,))


def answers_hint(name: str) -> str:
    chosen, rejected = (shlex.quote(f"{name}[{place}]") for place in (0, 1))
    pair = f"--map chosen={chosen} --map rejected={rejected}"
    return f"`{name}` holds two conversations: if the first is the better one, {pair}"
