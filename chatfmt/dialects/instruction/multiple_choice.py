"""Questions with choices, or with answers found in a passage (SQuAD)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DialectError
from ...field_path import value_at
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, find_side_parts, find_text, json_type
from ..kit.literals import are_objects, read_literal
from ..kit.output import Dropped, OutputRow, by_row
from .prompt_completion import unexplained_columns

QUESTIONS = ("question", "question_stem", "ctx", "query", "prompt", "problem", "sentence")
PASSAGES = ("passage", "context", "article")
CHOICES = ("choices", "options", "endings")
ANSWERS = (
    "answer", "answerKey", "answer_key", "label", "answer_idx", "correct_answer", "correct", "answer_index", "cop",
    "correct_option", "gold",
)  # fmt: skip
EXPLANATIONS = ("solution", "explanation")
_BESIDE = frozenset({*EXPLANATIONS, "exp", "rationale", "hint"})
"""Columns of text that do not change what is asked."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OWN_COLUMNS = ("op{}", "opt_{}", "option_{}", "choice_{}", "option{}", "choice{}", "ending_{}", "ending{}")
"""Names of columns with one choice each, in lower case; `{}` is a letter, or a number from 0 or 1."""


@by_row
def multiple_choice(record: SourceRow, columns: Columns) -> dict[str, Any]:
    r"""A question, its choices and the right one (MMLU, ARC, HellaSwag, …).

    In:  `{"question": "Sky?", "choices": ["red", "blue"], "answer": 1}`
    or   `{"question": "Sky?", "choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answerKey": "B"}`
    or   `{"question": "Sky?", "opa": "red", "opb": "blue", "cop": 1}`
    Out: `{"messages": [{"role": "user", "content": "Sky?\n\nA. red\nB. blue"},
           {"role": "assistant", "content": "B"}]}`

    Columns with one choice each may also be called `A`, `option1`, `choice_a`, … The answer column holds an index from
    0, a label, or the text of a choice; numbered columns have their numbers as labels, and the option `mc_base` set to
    1 counts indices from 1. Without one, the text of `solution` or `explanation` is the answer. The option `mc_answer`
    is `letter` (B), `text` (blue) or `both` (B. blue). A passage goes before the question, with a blank line between
    them. Raises DialectError `col.type`, `col.null`.
    """
    question = value_at(record, columns.path("prompt") or "question")
    if not isinstance(question, str):
        raise DialectError(f"the question is {json_type(question)}, not text", code="col.type")
    choices = read_choices(record, columns)
    if choices is None:
        raise DialectError("there are no choices", code="col.null")
    passage = value_at(record, columns.path("context") or "")
    before = f"{passage}\n\n" if isinstance(passage, str) and passage.strip() else ""
    lines = "\n".join(_labelled(choices))
    answer = _explanation(record, columns) or _right_answer(record, columns, choices)
    asked = f"{before}{question}\n\n{lines}"
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def _explanation(record: SourceRow, columns: Columns) -> str | None:
    """Return the explanation, for datasets without the right choice."""
    path = columns.path("explanation")
    value = value_at(record, path) if path else None
    return value if isinstance(value, str) else None


def _right_answer(record: SourceRow, columns: Columns, choices: Sequence[tuple[str, str]]) -> str:
    answer = value_at(record, columns.path("answer") or "answer")
    base = int(columns.option("mc_base", "0", "0", "1"))
    right = find_choice(answer - base if base and type(answer) is int else answer, choices)
    if right is None:
        raise DialectError(
            f"the answer {_shown(answer)} is not one of the {len(choices)} choices",
            hint="--dialect-option mc_base=1 counts from 1" if answer == len(choices) else "",
            code="col.type",
        )
    label, text = choices[right]
    return {"letter": label, "text": text, "both": _labelled(choices)[right]}[
        columns.option("mc_answer", "letter", "letter", "text", "both")
    ]


def _labelled(choices: Sequence[tuple[str, str]]) -> list[str]:
    """Return the choices with their labels, unless each text begins with its own: `A) red`."""
    own = all(re.match(rf"\(?{re.escape(label)}[.):]", text) for label, text in choices)
    return [text if own else f"{label}. {text}" for label, text in choices]


def _shown(value: Any) -> str:
    return f"`{value}`" if isinstance(value, (str, int)) else json_type(value)


def read_choices(record: SourceRow, columns: Columns) -> list[tuple[str, str]] | None:
    """Return the label and the text of each choice; None if the row has none."""
    own = {part.removeprefix(_OWN): path for part, path in columns.fields.items() if part.startswith(_OWN)}
    if own:
        found = [(label, text) for label, path in own.items() if isinstance(text := value_at(record, path), str)]
        return found if len(found) > 1 else None
    return _parse_choices(value_at(record, columns.path("choices") or "choices"))


_OWN = "choice_"
"""The prefix of the parts of choices in columns of their own."""


def _choice_columns(record: SourceRow) -> dict[str, str]:
    """Return the columns with one choice each, by their label; none for a single one."""
    letters = {letter: letter for letter in LETTERS if isinstance(record.get(letter), str)}
    groups: dict[str, dict[str, str]] = {"": letters}
    for name in record:
        pattern, label = _CHOICE_NAMES.get(name.lower(), ("", ""))
        if pattern and isinstance(record[name], str):
            groups.setdefault(pattern, {})[label] = name
    return next((found for found in groups.values() if len(found) > 1), {})


_CHOICE_NAMES = {
    pattern.format(label.lower()): (f"{pattern} {label.isdigit()}", label)
    for pattern in _OWN_COLUMNS
    for label in (*LETTERS, *map(str, range(20)))
}
"""The name of each column with one choice: its kind of name, and the label."""


def _parse_choices(value: Any) -> list[tuple[str, str]] | None:
    value = read_literal(value)
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        labels = value.get("label") or LETTERS[: len(value["text"])]
        pairs = list(zip(labels, value["text"], strict=False))
    elif isinstance(value, Mapping):
        pairs = list(value.items())
    elif are_objects(value):
        pairs = [(item.get("label", item.get("key")), item.get("text", item.get("value"))) for item in value]
    else:
        pairs = list(zip(LETTERS, value, strict=False)) if isinstance(value, list) else []
    valid = all(isinstance(label, str) and isinstance(text, str) for label, text in pairs)
    return pairs if len(pairs) > 1 and valid else None


def find_choice(answer: Any, choices: Sequence[tuple[str, str]]) -> int | None:
    """Return the index of a choice from an index, a label, the text, or a digit as text if the labels are letters."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        if all(label.isdigit() for label, _ in choices):
            return find_choice(str(answer), choices)
        return answer if 0 <= answer < len(choices) else None
    labels, texts = [label for label, _ in choices], [text for _, text in choices]
    for names in (labels, texts):
        if answer in names:
            return names.index(answer)
    if isinstance(answer, str) and answer.upper() in labels:
        return labels.index(answer.upper())
    digits = isinstance(answer, str) and answer.isascii() and answer.isdigit() and not any(map(str.isdigit, labels))
    return int(answer) if digits and int(answer) < len(choices) else None


def find_multiple_choice_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a question, choices and an answer."""
    question = columns.path("prompt") or next((name for name in QUESTIONS if isinstance(record.get(name), str)), None)
    if question is None:
        return None
    choices = columns.path("choices") or next((name for name in CHOICES if _parse_choices(record.get(name))), None)
    own = _choice_columns(record) if choices is None else {}
    answer = columns.path("answer") or next((name for name in ANSWERS if record.get(name) is not None), None)
    explanation = find_text(record, EXPLANATIONS, columns, "explanation") if answer is None else None
    if (choices is None and not own) or (answer is None and explanation is None):
        return None
    found = {"prompt": question, **({"choices": choices} if choices else {}), **find_side_parts(record, columns)}
    found |= {"answer": answer} if answer else {"explanation": explanation or ""}
    found |= {f"{_OWN}{label}": name for label, name in own.items()}
    passage = find_text(record, [name for name in PASSAGES if name != question], columns, "context")
    found |= {"context": passage} if passage else {}
    listed = read_choices(record, columns.adding(found))
    readable = listed and (explanation or isinstance(value_at(record, answer or ""), (str, int)))
    other = [name for name in unexplained_columns(record, found) if name.lower() not in _BESIDE]
    return found if readable and not (own and other and "A" not in own.values()) else None


@by_row
def squad(record: SourceRow, columns: Columns) -> list[OutputRow | Dropped]:
    r"""A passage, a question about it and answers found in it (SQuAD); the first answer is used, others are counted.

    In:  `{"context": "The sky is blue.", "question": "Which colour?",
           "answers": {"text": ["blue"], "answer_start": [11]}}`
    Out: `{"messages": [{"role": "user", "content": "The sky is blue.\n\nWhich colour?"},
           {"role": "assistant", "content": "blue"}]}`

    A question without an answer (version 2) gets the text of the option `unanswerable`, else it is an error `col.null`.
    Raises DialectError `col.type`, `col.null`.
    """
    context, question = (value_at(record, columns.path(part) or part) for part in ("context", "prompt"))
    texts = _answer_texts(value_at(record, columns.path("answers") or "answers"))
    if not isinstance(context, str) or not isinstance(question, str) or texts is None:
        raise DialectError("the context, the question or the answers are not text", code="col.type")
    answer = texts[0] if texts else columns.options.get("unanswerable")
    if not isinstance(answer, str):
        raise DialectError(
            "the question has no answer", code="col.null", hint="--dialect-option unanswerable=TEXT sets the answer"
        )
    asked = {"role": "user", "content": f"{context}\n\n{question}"}
    others = [Dropped("answers")] * (len({answer, *texts}) - 1)
    return [{"messages": [asked, {"role": "assistant", "content": answer}]}, *others]


def _answer_texts(value: Any) -> list[str] | None:
    value = read_literal(value)
    texts = value.get("text") if isinstance(value, Mapping) else None
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        texts = [item.get("text") for item in value]
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else None


def find_squad_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a context, a question and answers."""
    paths = {
        "context": columns.path("context") or "context",
        "prompt": columns.path("prompt") or "question",
        "answers": columns.path("answers") or "answers",
    }
    context, question, answers = (value_at(record, path) for path in paths.values())
    fits = isinstance(context, str) and isinstance(question, str) and _answer_texts(answers) is not None
    return paths if fits else None


DIALECTS = {
    "multiple-choice": Dialect(multiple_choice, find_multiple_choice_parts, "a question with answer choices", rank=400,
                               parts=frozenset({"prompt", "choices", "answer", "context"})),
    "squad": Dialect(squad, find_squad_parts, "a passage, a question and answers found in it (SQuAD)", rank=410,
                     parts=frozenset({"prompt", "context", "answers"})),
}  # fmt: skip
