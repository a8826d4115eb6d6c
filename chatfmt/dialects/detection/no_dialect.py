"""Errors for rows that no dialect fits, with a hint of what to type."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import DialectError, Location, NoDialect
from ...field_path import expression_for, value_at
from ...schema import ROW
from ..chat.turns import find_turn_keys, turns_at
from ..kit.columns import Columns, SourceRow, ambiguous_part, records_of
from ..kit.literals import are_objects, are_texts
from ..kit.names import COMPLETIONS, EVENTS, MESSAGES, PROMPTS, is_metadata
from .preference_hints import ANSWER_WORDS, has_word, opposites_hint, pair_hint, two_answers_hint
from .turn_hints import MARKER_ROWS, nested_turns, transcript_hint, turns_hint


def no_dialect(
    names: Sequence[str],
    records: Sequence[SourceRow],
    columns: Columns,
    shown: Mapping[str, str],
    name: str,
    fits: Counter[str],
    other: str | None,
) -> NoDialect:
    """Return the error for rows that the dialect `name` (or none, for `auto`) does not fit: it names the columns.

    `shown` has what the user mapped to columns that are not in the source, `fits` counts the few rows that each dialect
    fits, and `other` is a dialect that fits all.
    """
    if not records:
        return NoDialect("no rows to detect a dialect from", hint="check --split and --data-files")
    listed = ", ".join(f"`{column}`" for column in names if shown.get(column, column) == column) or "none"
    which = "no dialect fits" if name == "auto" else f"the dialect `{name}` does not fit"
    hint = _hint(names, records, columns, shown) if other is None else f"leave out --dialect: `{other}` fits"
    some = f" more than {fits.total()} of the {len(records)} sampled rows" if fits else ""
    if hint == _UNKNOWN and fits:
        first, count = next(iter(fits.items()))
        hint = f"--dialect {first} reads those, and {_skip_flags(count, len(records))} leaves out the others"
    return NoDialect(f"{which}{some}: the columns are {listed}", hint=hint)


def _skip_flags(good: int, rows: int) -> str:
    """Return the flags of `convert` that leave out all but so many of the rows."""
    share = -(-100 * (rows - good) // rows)
    return f"--on-error skip{f' --max-bad {share}%' if share > 10 else ''}"


_CONVERSATIONS = frozenset({*MESSAGES, *EVENTS, "history"})
_EMPTY: tuple[object, ...] = ([], {}, "[]", "{}")


def empty_conversation(record: SourceRow, columns: Columns) -> str | None:
    """Return the column of a row that holds a conversation without turns; None if it has none, or another with some."""
    mapped = columns.path("messages")
    names = [mapped] if mapped else [name for name in record if name.lower() in _CONVERSATIONS]
    values = [value_at(record, name) for name in names]
    asked = not mapped and any(record[name] for name in record if name.lower() in (*PROMPTS, *COMPLETIONS))
    return names[0] if names and not asked and all(value in _EMPTY for value in values) else None


def empty_column(batches: Sequence[pa.RecordBatch], columns: Columns) -> str:
    """Return the column of the first of rows that are all conversations without turns."""
    first = next(records_of(batch)[0] for batch in batches if len(batch))
    return empty_conversation(first, columns) or ""


def turns_in_turn(batches: Sequence[pa.RecordBatch], columns: Columns) -> str:
    """Return the path in the first turn where a list of turns is; empty if there is none."""
    records = [record for batch in batches for record in records_of(batch.slice(0, 1))]
    turns = records[0].get("messages") if records else None
    turn = turns[0] if isinstance(turns, list) and turns else None
    return next((path for path, _ in nested_turns(turn, columns) if isinstance(value_at(turn, path), list)), "")


def no_turns(batches: Sequence[pa.RecordBatch], columns: Columns) -> DialectError:
    """Return the error for the first of rows that are all conversations without turns."""
    batch = next(batch for batch in batches if len(batch))
    return DialectError(
        f"`{empty_column(batches, columns)}` is empty: the conversation has no turns",
        hint="--on-error skip rejects such rows",
        at=Location(row=batch.column(ROW)[0].as_py()),
        code="row.empty",
    )


def _hint(names: Sequence[str], records: Sequence[SourceRow], columns: Columns, shown: Mapping[str, str]) -> str:
    known = next((command for columns, command in _FORMATS if columns <= set(names)), None)
    if known:
        return f"a recipe reads them: chatfmt convert {known}"
    if {"code", "detail", "raw"} <= {*names}:
        return "they are rejects of an earlier run: --from-rejects converts the rows that they hold"
    if "input_ids" in names:
        return "the rows are token ids, which only trainers read: name the source they were made of"
    texts = [name for name in names if isinstance(records[0].get(name), str)]
    turns = [name for name in names if find_turn_keys(turns_at(records[0], name), columns)]
    answers = [name for name in names if name in (*texts, *turns) or are_texts(records[0].get(name))]
    own = [name for name in texts if not is_metadata(name)]
    of_pair = pair_hint(records[0]) or opposites_hint(answers, records[0]) or two_answers_hint(answers, names, records)
    by_shape = of_pair or (None if own else _inside_hint(records[0])) or turns_hint(names, records, columns)
    return by_shape or transcript_hint(texts, records) or _texts_hint(names, records, columns, shown)


_FORMATS = (
    (frozenset({"from", "text_entities"}), "telegram FILE --me NAME"),
    (frozenset({"author", "timestampEdited"}), "discord FILE --me NAME"),
    (frozenset({"parentUuid", "sessionId"}), "claude-code FILE"),
    (frozenset({"timestamp", "type", "payload"}), "codex FILE"),
    (frozenset({"custom_id", "response"}), "openai-batch REQUESTS RESULTS"),
    (frozenset({"custom_id", "result"}), "anthropic-batch REQUESTS RESULTS"),
    (frozenset({"labeler", "is_quality_control_question"}), "prm800k-original FILE"),
    (frozenset({"ts", "user", "text"}), "slack FOLDER --me ID"),
)
"""Columns of files that a recipe reads, with its command."""


def _texts_hint(names: Sequence[str], records: Sequence[SourceRow], columns: Columns, shown: Mapping[str, str]) -> str:
    """Hint for a question and an answer in separate columns."""
    texts = [name for name in names if any(isinstance(record.get(name), str) for record in records)]
    prompt = _first_of(texts, PROMPTS) or columns.path("prompt")
    completion = _first_of(texts, COMPLETIONS) or columns.path("completion")
    other = next((name for name in names if name not in texts and name.lower() in COMPLETIONS), None)
    if prompt and other:
        asked, answer = (shown.get(name, name) for name in (prompt, other))
        values = [record[other] for record in records if record.get(other)]
        return _not_text_hint(asked, answer, values[0]) if values else _no_answer_hint(asked, answer)
    if prompt and not completion:
        only = f"; or only prompts: --map prompt={shlex.quote(prompt)} --dialect prompt-only"
        others = [name for name in names if name != prompt and not is_metadata(name)]
        values = [record.get(name) for name in others for record in records]
        if any(isinstance(value, (str, list, Mapping)) and value for value in values):
            only = ""  # they would be lost
        pair_flags = _map_pair(shown.get(prompt, prompt), _named_like(texts, prompt, ANSWER_WORDS))
        return f"map the answer: {pair_flags}{only}"
    if completion and not prompt:
        asked = _named_like(texts, completion, _QUESTION_WORDS)
        pair_flags = _map_pair(asked, shown.get(completion, completion))
        return f"map the question: {pair_flags}{_or_text([completion], records)}"
    return _unnamed_hint(texts, records)


def _no_answer_hint(prompt: str, answer: str) -> str:
    """Hint for an answer without a value in any row: another column, or none."""
    other, only = f"--map user={shlex.quote(prompt)} --map assistant=COLUMN", f"--map prompt={shlex.quote(prompt)}"
    first = f"no sampled row has a value in `{answer}`: map another column with {other}"
    return f"{first}; or only prompts: {only} --dialect prompt-only"


def _not_text_hint(prompt: str, answer: str, value: Any) -> str:
    """Hint for an answer that is a number, a list or an object; none for data that is not text at all."""
    asked, path = f"--map user={shlex.quote(prompt)}", expression_for(answer, (answer,))
    if isinstance(value, (int, float)):
        return f"`{answer}` is not text; convert it with {asked} --map assistant='{{{{ {path} }}}}'"
    if are_objects(value):
        return f"`{answer}` is a list of objects: {asked} --map assistant='{answer}[INDEX].KEY' reads a text of one"
    if isinstance(value, list):
        every = f"--explode {shlex.quote(answer)} {asked} --map assistant={shlex.quote(answer)}"
        return f"`{answer}` is a list, not text; {every} makes a row of each item"
    return f"`{answer}` is not text: map another column with {asked} --map assistant=COLUMN"


_QUESTION_WORDS = frozenset({*PROMPTS, "ask"} - {"inputs", "message_1"})


def _named_like(texts: Sequence[str], used: str, words: frozenset[str]) -> str:
    """Return the only other column of text with one of the words in its name and no other part's, or a placeholder."""
    others = {*_QUESTION_WORDS, "input"} if words is ANSWER_WORDS else ANSWER_WORDS
    found = [name for name in texts if name != used and has_word(name, words) and not has_word(name, others)]
    return found[0] if len(found) == 1 else "COLUMN"


def _unnamed_hint(texts: Sequence[str], records: Sequence[SourceRow]) -> str:
    """Hint for columns whose names say little: they are never guessed."""
    own = [name for name in texts if not is_metadata(name)]
    letters = {name.lower(): name for name in own}
    if {"q", "a"} <= letters.keys():
        return f"map question and answer: {_map_pair(letters['q'], letters['a'])}"
    if len(own) == 1:
        return f"map a column of turns with --map messages=COLUMN{_or_text(own, records)}"
    if own:
        pair = _map_pair(_named_like(own, "", _QUESTION_WORDS), _named_like(own, "", ANSWER_WORDS))
        return f"map question and answer: {pair}{_or_text(own, records)}"
    return _inside_hint(records[0]) or _UNKNOWN


def _inside_hint(record: SourceRow) -> str | None:
    """Hint for a question and an answer inside of objects."""
    inside = {f"{name}.{key}": text for name, value in record.items() if isinstance(value, Mapping)
              for key, text in value.items()}  # fmt: skip
    own = [path for path, text in inside.items() if isinstance(text, str)]
    pair = _map_pair(_named_like(own, "", _QUESTION_WORDS), _named_like(own, "", ANSWER_WORDS))
    return None if "COLUMN" in pair else f"map question and answer: {pair}"


_UNKNOWN = "map a column of turns with --map messages=COLUMN, or texts with --map user=COLUMN --map assistant=COLUMN"


def _or_text(names: Sequence[str], records: Sequence[SourceRow]) -> str:
    """Hint for text that is trained on as it is: the longest column, if it is more than a word."""
    inside = [
        name for name, value in records[0].items() if isinstance(value, (list, Mapping)) and not is_metadata(name)
    ]
    sizes = {name: sum(len(str(record.get(name) or "")) for record in records) for name in (*names, *inside)}
    longest = max(names, key=lambda name: sizes[name])
    if any(2 * size > sizes[longest] for name, size in sizes.items() if name != longest):  # no text but the others
        return ""
    if any(re.match(r"""\s*"?(array\()?\[?\{""", str(record.get(longest) or "")) for record in records[:MARKER_ROWS]):
        return ""  # objects as text
    prose = [record for record in records if len(str(record.get(longest) or "").split()) > 1]
    return f"; or plain text: --map text={shlex.quote(longest)}" if 2 * len(prose) > len(records) else ""


def _map_pair(prompt: str, completion: str) -> str:
    """Return the flags that read two texts as a conversation, as names such as `question` and `answer` are read."""
    return f"--map user={shlex.quote(prompt)} --map assistant={shlex.quote(completion)}"


def _first_of(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in names if name.lower() in wanted), None)


def ambiguous_hint(error: NoDialect, records: Sequence[SourceRow], columns: Columns) -> str:
    """Return the hint for a row with an ambiguous part, which may hold conversations by id, or a pair of answers."""
    hint, by_id = error.hint, len(records) == 1 and not any(name.lower() in MESSAGES for name in records[0])
    if by_id and all(are_objects(turns) and find_turn_keys(turns, columns) for turns in records[0].values()):
        flags = "--explode 'values(.)' --map messages='values(.)'"
        hint = f"if each value is a conversation, {flags}; else {hint}"
    pair = [name for name in records[0] if f"`{name}`" in error.message]
    return opposites_hint(pair, records[0]) or two_answers_hint(pair, list(records[0]), records) or hint


def rows_differ(readings: Sequence[Mapping[str, str]]) -> NoDialect:
    """Return the error for rows with the same part in different columns."""
    found: dict[str, dict[str, None]] = {}
    for part, path in (item for parts in readings for item in parts.items()):
        found.setdefault(part, {})[path] = None
    part, paths = next((part, list(paths)) for part, paths in found.items() if len(paths) > 1)
    return NoDialect(ambiguous_part(paths, part).message, hint="--dialect mixed reads each row by its own columns")


def types_differ(types: Mapping[str, int], rows: Iterable[tuple[Location, str | None]]) -> NoDialect:
    """Return the error for rows of several dataset types, such as conversations and preferences.

    `types` counts them, and `rows` has the type of each row, None for those that no dialect fits.
    """
    counts = ", ".join(f"{count} {name}" for name, count in types.items())
    most = max(types, key=lambda name: types[name])
    other, name = next((at, name) for at, name in rows if name not in (None, most))
    skip = _skip_flags(types[most], sum(types.values()))
    return NoDialect(
        f"the rows are of different types: {counts}; {other} is {name}",
        hint=f"--dialect mixed reads those of type {most}: the others are bad rows, which {skip} leaves out",
    )
