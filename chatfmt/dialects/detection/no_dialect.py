"""Errors for rows that no dialect fits, with a hint of what to type."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import DialectError, Location, NoDialect
from ...field_path import value_at
from ...schema import ROW
from ..chat.turns import CONTENT_KEYS, ROLE_KEYS, find_turn_keys, read_turn_list
from ..kit.columns import Columns, SourceRow, ambiguous_part, columns_named, records_of
from ..kit.literals import read_literal
from ..kit.names import ANSWER_LISTS, COMPLETIONS, EVENTS, MESSAGES, PROMPTS, is_metadata
from ..kit.roles import role_of
from .preference_hints import (
    ANSWER_WORDS,
    answers_hint,
    has_word,
    opposites_hint,
    pair_hint,
    several_answers_hint,
    two_answers_hint,
)
from .rows_as_turns import RowsAsTurns, rows_as_turns

_MARKER_ROWS = 50
"""The number of rows that are searched for speaker markers."""
_MARKER = re.compile(r"^(?:#{1,4} ?)?[A-Z][A-Za-z]{0,15}:", re.MULTILINE)
_USERS = frozenset({"human", "user", "question", "q", "prompter", "customer", "patient", "student", "instruction"})
_SYSTEMS = frozenset({"system", "context"})


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
        hint = f"--dialect {next(iter(fits))} reads those, and --on-error skip leaves out the others"
    return NoDialect(f"{which}{some}: the columns are {listed}", hint=hint)


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
    turns = records_of(next(batch for batch in batches if len(batch)))[0].get("messages")
    turn = turns[0] if isinstance(turns, list) and turns else None
    return next((path for path, _ in _nested_turns(turn, columns) if isinstance(value_at(turn, path), list)), "")


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
    of_pair = pair_hint(records[0]) or opposites_hint(texts) or two_answers_hint(texts, names, records)
    by_shape = of_pair or _turns_hint(names, records, columns)
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


def _turns_hint(names: Sequence[str], records: Sequence[SourceRow], columns: Columns) -> str | None:
    """Hint for turns that are nested in the row, have keys of other names, or are the rows themselves."""
    record = records[0]
    if len(records) == 1 and len(record) > 1 and all(_are_records([value]) for value in record.values()):
        return _VALUES
    if path := _rows_path(record) if len(records) == 1 else None:
        return f"the rows could be in `{path}`: --field {shlex.quote(path)}"
    if gaps := next((name for name in names if _has_null_turns(record.get(name), columns)), None):
        without = f'messages={{{{ row[{json.dumps(gaps, ensure_ascii=False)}] | reject("none") | list | tojson }}}}'
        return f"`{gaps}` has null in place of a turn, which this leaves out: --map {shlex.quote(without)}"
    nested = list(_nested_turns(record, columns))
    lists = [
        path for path, role in nested if not (isinstance(value_at(record, path), Mapping) and isinstance(role, str))
    ]
    named = next((name for name in names if _holds_turns(record.get(name), columns)), None)
    if named:
        return f"the turns could be the values of `{named}`: --map messages={shlex.quote(f'values({named})')}"
    turns = rows_as_turns(names, records, columns)
    if turns or (nested and not lists):
        return _one_turn(turns)
    if pair := next((name for name in names if _are_conversations(record.get(name), columns)), None):
        return answers_hint(pair)
    if answers := next((name for name in columns_named(record, ANSWER_LISTS) if _are_texts(record[name])), None):
        return several_answers_hint(answers, names)
    if nested:
        return _nested_hint(nested, record)
    if listed := [name for name in names if _are_records(record.get(name))]:
        return _records_hint(listed, records)
    own = [name for name in names if not is_metadata(name)]
    spoken = [name for name in names if _SPOKEN.search(name.lower()) or own == [name]]
    if alternating := next(filter(None, (_alternating_path(name, record.get(name)) for name in spoken)), None):
        path, texts = alternating
        return f"if the texts in `{texts}` alternate: --map messages={shlex.quote(path)} --roles user,assistant"
    return (_values_hint(record) if len(records) == 1 and len(record) > 1 else None) or _objects_hint(names, record)


_VALUES = "the values could be rows: --field 'values(.)'"


def _rows_path(record: SourceRow) -> str | None:
    """Return the path to rows in lists of lists of the one record of a file, as in SQuAD; None if it has none."""
    path, lists = "", [(name, value) for name, value in record.items() if _objects(value)]
    while len(lists) == 1 and not _are_records(lists[0][1]):
        path, record = f"{path}{lists[0][0]}[].", lists[0][1][0]
        lists = [(name, value) for name, value in record.items() if _objects(value)]
    return path.removesuffix(".") if path and lists else None


def _has_null_turns(value: Any, columns: Columns) -> bool:
    """Return whether a value is a list of turns and nulls."""
    turns = [turn for turn in value if turn is not None] if isinstance(value, list) and None in value else []
    return _objects(turns) and find_turn_keys(turns, columns) is not None


def _records_hint(listed: Sequence[str], records: Sequence[SourceRow]) -> str:
    """Hint for columns of records: turns of pairs, or rows, beside which `--explode` keeps the other columns."""
    first, flags = listed[0], [shlex.quote(name) for name in listed]
    if records[0][first][0].keys() >= {"user", "assistant"}:
        return f"the turns could be in `{first}`: --map messages={flags[0]}"
    others = [value for name, value in records[0].items() if name not in listed]
    if len(records) > 1 or any(isinstance(value, (list, Mapping)) and value for value in others):
        return f"the rows could be in `{first}`: --explode {flags[0]}"
    names = " or ".join(f"`{name}`" for name in listed)
    return f"the rows could be in {names}: {' or '.join(f'--field {name}' for name in flags)}"


def _one_turn(found: RowsAsTurns | None) -> str:
    """Hint for rows that are turns: the flags that make conversations of them."""
    flags = " ".join((found or RowsAsTurns(None, None)).flags())
    roles = "; ROLE is user, assistant, system or tool" if found and found.speakers else ""
    return f"each row is one turn: {flags} makes one conversation of them{roles}"


def _are_conversations(value: Any, columns: Columns) -> bool:
    """Return whether a value is a list of two conversations."""
    lists = value if isinstance(value, list) and len(value) == 2 else []
    lists = [turns for turns in lists if not isinstance(turns, Mapping)]  # which is a turn
    return len(lists) == 2 and all(find_turn_keys(read_turn_list(turns), columns) for turns in lists)


_SPOKEN = re.compile("dialog|conversation|utterances|turns|history|chat")


def _alternating_path(name: str, value: Any) -> tuple[str, str] | None:
    """Return the path to all texts in a list of texts or of lists of texts, and the column; None for other values."""
    value = read_literal(value)
    lists = isinstance(value, list) and bool(value) and all(map(_are_texts, value))
    return (f"{name}[][]", name) if lists else (name, name) if _are_texts(value) else None


def _are_texts(value: Any) -> bool:
    """Return whether a value is a list of several texts."""
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)


def _holds_turns(value: Any, columns: Columns) -> bool:
    """Return whether a value is an object of several turns, each under a key of its own."""
    turns = list(value.values()) if isinstance(value, Mapping) else []
    if len(turns) < 2 or not all(isinstance(turn, Mapping) for turn in turns):
        return False
    keys = find_turn_keys([dict(turn) for turn in turns], columns)
    return keys is not None and len(keys) == 2


def _objects_hint(names: Sequence[str], record: SourceRow) -> str | None:
    """Hint for a column of objects whose keys say little."""
    texts = next((name for name in names if _are_several_texts(record.get(name))), None)
    if texts and not any(isinstance(record.get(name), str) for name in names):
        keys, path = ", ".join(f"`{key}`" for key in record[texts]), shlex.quote(f"{texts}.KEY")
        return f"`{texts}` holds the texts {keys}: map one to each part, --map prompt={path} --map completion={path}"
    objects = next((name for name in names if _objects(record.get(name))), None)
    if objects and not any(name.lower() in PROMPTS for name in names):
        keys, flags = ", ".join(f"`{key}`" for key in record[objects][0]), f"--map messages={shlex.quote(objects)}"
        role, content = (columns_named(record[objects][0], known)[:1] for known in (ROLE_KEYS, CONTENT_KEYS))
        if role and content:
            named = f"--map messages.role={shlex.quote(role[0])} --map messages.content={shlex.quote(content[0])}"
            return f"the turns could be in `{objects}`: {flags} {named}"
        return (
            f"`{objects}` holds objects with the keys {keys}: name them with {flags} "
            "--map messages.role=KEY --map messages.content=KEY, or for pairs --map messages.user=KEY "
            "--map messages.assistant=KEY"
        )
    return None


def _are_several_texts(value: Any) -> bool:
    """Return whether a value is an object of several texts."""
    return isinstance(value, Mapping) and len(value) > 1 and all(isinstance(text, str) for text in value.values())


def _values_hint(record: SourceRow) -> str | None:
    """Hint for the one record of a file whose values are lists of rows, rows, or columns of one length."""
    values = list(record.values())
    if all(map(_objects, values)):
        return _records_hint(list(record), [record])
    objects = all(isinstance(value, Mapping) for value in values) and len({tuple(value) for value in values}) == 1
    if objects and not "".join(values[0]).isdecimal():  # as pandas names its rows
        return _VALUES
    lists = all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1
    return "the values could be columns of rows: --field 'columns(.)'" if lists or objects else None


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
    asked, path = f"--map user={shlex.quote(prompt)}", f"row[{answer!r}]" if not answer.isidentifier() else answer
    if isinstance(value, (int, float)):
        return f"`{answer}` is not text; convert it with {asked} --map assistant='{{{{ {path} }}}}'"
    if _objects(value):
        return f"`{answer}` is a list of objects: {asked} --map assistant='{answer}[INDEX].KEY' reads a text of one"
    if isinstance(value, list):
        every = f"--explode {shlex.quote(answer)} {asked} --map assistant={shlex.quote(answer)}"
        return f"`{answer}` is a list, not text; {every} makes a row of each item"
    return f"`{answer}` is not text: map another column with {asked} --map assistant=COLUMN"


_QUESTION_WORDS = frozenset({*PROMPTS, "ask"} - {"inputs", "message_1"})


def _named_like(texts: Sequence[str], used: str, words: frozenset[str]) -> str:
    """Return the only other column of text with one of the words in its name, or a placeholder."""
    found = [name for name in texts if name != used and has_word(name, words)]
    return found[0] if len(found) == 1 else "COLUMN"


def _nested_hint(found: Sequence[tuple[str, str | None]], record: SourceRow) -> str:
    """Hint for nested turns: a whole conversation, or a prompt with the assistant's answer elsewhere."""
    path, last = found[0]
    answer = next((other for other, role in found[1:] if role == "assistant"), None)
    if last != "assistant" and answer is not None:
        return (
            f"the turns could be in `{path}` and `{answer}`: "
            f"--map prompt={shlex.quote(path)} --map completion={shlex.quote(answer)}"
        )
    outer, several, inner = path.partition("[0].")
    if several and len(value_at(record, outer)) > 1:
        flags = f"--explode {shlex.quote(outer)} --map messages={shlex.quote(inner)}"
        return f"`{outer}` holds several conversations: {flags} makes a row of each"
    return f"the turns could be in `{path}`: --map messages={shlex.quote(path)}"


def _are_records(value: Any) -> bool:
    """Return whether a value is a list of objects whose keys are names of columns, not keys of turns."""
    if not _objects(value):
        return False
    keys = {key.lower() for key in value[0]}
    return bool(keys & {*MESSAGES, *PROMPTS} or keys >= {"input", "output"}) and not keys & set(ROLE_KEYS)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _unnamed_hint(texts: Sequence[str], records: Sequence[SourceRow]) -> str:
    """Hint for columns whose names say little: they are never guessed."""
    own = [name for name in texts if not is_metadata(name)]
    if len(own) == 1:
        return f"map a column of turns with --map messages=COLUMN{_or_text(own, records)}"
    if own:
        pair = _map_pair(_named_like(own, "", _QUESTION_WORDS), _named_like(own, "", ANSWER_WORDS))
        return f"map question and answer: {pair}{_or_text(own, records)}"
    return _UNKNOWN


_UNKNOWN = "map a column of turns with --map messages=COLUMN, or texts with --map user=COLUMN --map assistant=COLUMN"


def _or_text(names: Sequence[str], records: Sequence[SourceRow]) -> str:
    """Hint for text that is trained on as it is: the longest column, if it is more than a word."""
    sizes = {name: sum(len(str(record.get(name) or "")) for record in records) for name in names}
    longest = max(sizes, key=lambda name: sizes[name])
    if any(2 * size > sizes[longest] for name, size in sizes.items() if name != longest):  # no text but the others
        return ""
    prose = [record for record in records if len(str(record.get(longest) or "").split()) > 1]
    return f"; or plain text: --map text={shlex.quote(longest)}" if 2 * len(prose) > len(records) else ""


def _map_pair(prompt: str, completion: str) -> str:
    """Return the flags that read two texts as a conversation, as names such as `question` and `answer` are read."""
    return f"--map user={shlex.quote(prompt)} --map assistant={shlex.quote(completion)}"


def _first_of(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in names if name.lower() in wanted), None)


def _nested_turns(value: Any, columns: Columns, path: str = "", depth: int = 0) -> Iterator[tuple[str, str | None]]:
    """Yield the paths of a turn or a list of turns inside a row, each with the role of the last turn."""
    value = read_literal(value)
    turns = [value] if isinstance(value, dict) else value
    listed = isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns)
    keys = find_turn_keys(turns, columns) if path and listed else None
    if keys and (isinstance(value, list) or len(keys) == 2):
        yield path, turns[-1].get(keys["messages.role"])
    elif depth < 5:
        for key, item in _inside(value):
            yield from _nested_turns(item, columns, f"{path}{key}".removeprefix("."), depth + 1)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values of an object, or the first item of a list, each with its step of the path."""
    if isinstance(value, Mapping):
        yield from ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, list) and value:
        yield "[0]", value[0]


def rows_differ(readings: Sequence[Mapping[str, str]]) -> NoDialect:
    """Return the error for rows with the same part in different columns."""
    found: dict[str, dict[str, None]] = {}
    for part, path in (item for parts in readings for item in parts.items()):
        found.setdefault(part, {})[path] = None
    part, paths = next((part, list(paths)) for part, paths in found.items() if len(paths) > 1)
    return ambiguous_part(paths, part)


def types_differ(types: Mapping[str, int], rows: Iterable[tuple[Location, str | None]]) -> NoDialect:
    """Return the error for rows of several dataset types, such as conversations and preferences.

    `types` counts them, and `rows` has the type of each row, None for those that no dialect fits.
    """
    counts = ", ".join(f"{count} {name}" for name, count in types.items())
    most = max(types, key=lambda name: types[name])
    other, name = next((at, name) for at, name in rows if name not in (None, most))
    return NoDialect(
        f"the rows are of different types: {counts}; {other} is {name}",
        hint=f"--dialect mixed reads those of type {most}: the others are bad rows, which --on-error skip leaves out",
    )


def transcript_hint(texts: Sequence[str], records: Sequence[SourceRow]) -> str | None:
    """Hint for the first column of text whose lines begin with markers such as `Human:`; None if there is none.

    A name that says nothing of its role is left open.
    """
    for name in texts:
        values = [record.get(name) for record in records[:_MARKER_ROWS]]
        markers = _find_markers([value for value in values if isinstance(value, str)])
        if len(markers) >= 2:
            flags = " ".join(f"--marker {shlex.quote(f'{marker}={role}')}" for marker, role in _roles(markers).items())
            return f"`{name}` looks like a transcript: --map transcript={shlex.quote(name)} {flags}"
    return None


def _find_markers(texts: Sequence[str]) -> list[str]:
    """Return the markers at the start of lines in over half of the texts, if over half of the texts begin with one."""
    found = [_MARKER.findall(text) for text in texts]
    opened = sum(_MARKER.match(text.lstrip()) is not None for text in texts)
    if 2 * opened <= len(texts):
        return []
    rows = Counter(marker for markers in found for marker in dict.fromkeys(markers))
    return [marker for marker, count in rows.items() if 2 * count > len(texts)]


def _roles(markers: Sequence[str]) -> dict[str, str]:
    """Return the role of each marker by its name; of two, what is not the user is the assistant."""
    names = {marker: marker.strip("#: ").lower() for marker in markers}
    roles = {
        marker: "system" if name in _SYSTEMS else "user" if name in _USERS else role_of(name, {}) or "ROLE"
        for marker, name in names.items()
    }
    speakers = [marker for marker, role in roles.items() if role != "system"]
    if len(speakers) == 2 and [roles[marker] for marker in speakers].count("user") == 1:
        roles |= {marker: "assistant" for marker in speakers if roles[marker] != "user"}
    return roles
