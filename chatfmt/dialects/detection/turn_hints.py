"""Hints of what to type for turns and rows that are inside of rows, have keys of other names, or are the rows."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...field_path import value_at
from ...schema import Turn
from ..chat.transcripts import parse_transcript
from ..chat.turns import CONTENT_KEYS, ROLE_KEYS, find_turn_keys, read_turn_list
from ..kit.columns import Columns, SourceRow, columns_named
from ..kit.literals import are_objects, are_texts, read_literal
from ..kit.names import ANSWER_LISTS, COMPLETIONS, MESSAGES, PROMPTS, is_metadata
from ..kit.roles import role_of
from .preference_hints import answers_hint, has_word, opposites_hint, several_answers_hint
from .rows_as_turns import RowsAsTurns, rows_as_turns


def turns_hint(names: Sequence[str], records: Sequence[SourceRow], columns: Columns) -> str | None:
    """Hint for turns that are nested in the row, have keys of other names, or are the rows themselves."""
    record = records[0]
    if len(records) == 1 and len(record) > 1 and all(_are_records([value]) for value in record.values()):
        return _VALUES
    if path := _rows_path(record) if len(records) == 1 else None:
        return f"the rows could be in `{path}`: --field {shlex.quote(path)}"
    if gaps := next((name for name in names if _has_null_turns(record.get(name), columns)), None):
        without = f'messages={{{{ row[{json.dumps(gaps, ensure_ascii=False)}] | reject("none") | list | tojson }}}}'
        return f"`{gaps}` has null in place of a turn, which this leaves out: --map {shlex.quote(without)}"
    nested = list(nested_turns(record, columns))
    lists = [
        path for path, role in nested if not (isinstance(value_at(record, path), Mapping) and isinstance(role, str))
    ]
    named = next((name for name in names if _holds_turns(record.get(name), columns)), None)
    if named:
        return f"the turns could be the values of `{named}`: --map messages={shlex.quote(f'values({named})')}"
    turns = rows_as_turns(names, records, columns)
    if not turns and not lists and any("[0]" in path for path, _ in nested[:1]):
        return _listed_hint(nested, record)
    if turns and lists:
        return f"each row is a turn with its replies in `{lists[0]}`: write each path through them as a list of turns"
    if turns or (nested and not lists):
        return _one_turn(turns)
    if pair := next((name for name in names if _are_conversations(record.get(name), columns)), None):
        return answers_hint(pair)
    if answers := next((name for name in columns_named(record, ANSWER_LISTS) if _are_texts(record[name])), None):
        return _side_by_side(answers, record) or several_answers_hint(answers, names)
    if nested:
        return _nested_hint(nested, record)
    if listed := [name for name in names if _are_records(record.get(name))]:
        return _records_hint(listed, records)
    own = [name for name in names if not is_metadata(name)]
    spoken = [name for name in names if _SPOKEN.search(name.lower()) or own == [name]]
    if alternating := next(filter(None, (_alternating_path(name, record.get(name)) for name in spoken)), None):
        path, texts = alternating
        alternate = f"if the texts in `{texts}` alternate: --map messages={shlex.quote(path)} --roles user,assistant"
        return transcript_hint([texts], records) or alternate
    return (_values_hint(record) if len(records) == 1 and len(record) > 1 else None) or _objects_hint(names, record)


def _listed_hint(found: Sequence[tuple[str, str | None]], record: SourceRow) -> str:
    """Hint for turns that are each in an object of a list: a conversation, or answers to a question beside them."""
    path = found[0][0].replace("[0]", "[]")
    outer, several, inner = path.partition("[].")
    asked = next(iter(columns_named(record, (*PROMPTS, "input"))), None)
    if several and asked and all(_ends_with_answer(role) for _, role in found):
        flags = f"--map prompt={shlex.quote(asked)} --map completion={shlex.quote(inner)}"
        return f"`{outer}` holds the answers: --explode {shlex.quote(outer)} {flags} makes a row of each"
    return f"the turns could be in `{path}`: --map messages={shlex.quote(path)}"


_VALUES = "the values could be rows: --field 'values(.)'"


def _rows_path(record: SourceRow) -> str | None:
    """Return the path to rows in lists of lists of the one record of a file, as in SQuAD; None if it has none."""
    path, lists = "", [(name, value) for name, value in record.items() if are_objects(value)]
    while len(lists) == 1 and not _are_records(lists[0][1]):
        path, record = f"{path}{lists[0][0]}[].", lists[0][1][0]
        lists = [(name, value) for name, value in record.items() if are_objects(value)]
    return path.removesuffix(".") if path and lists else None


def _has_null_turns(value: Any, columns: Columns) -> bool:
    """Return whether a value is a list of turns and nulls."""
    turns = [turn for turn in value if turn is not None] if isinstance(value, list) and None in value else []
    return are_objects(turns) and find_turn_keys(turns, columns) is not None


def _records_hint(listed: Sequence[str], records: Sequence[SourceRow]) -> str:
    """Hint for columns of records: turns of pairs, or rows, beside which `--explode` keeps the other columns."""
    first, flags = listed[0], [shlex.quote(name) for name in listed]
    keys = records[0][first][0].keys()
    if "user" in keys and not keys.isdisjoint(("assistant", "bot")):
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
    return are_texts(value) and len(value) > 1


def _holds_turns(value: Any, columns: Columns) -> bool:
    """Return whether a value is an object of several turns, each under a key of its own."""
    turns = list(value.values()) if isinstance(value, Mapping) else []
    if len(turns) < 2 or not all(isinstance(turn, Mapping) for turn in turns):
        return False
    keys = find_turn_keys([dict(turn) for turn in turns], columns)
    return keys is not None and len(keys) == 2


def _side_by_side(answers: str, record: SourceRow) -> str | None:
    """Hint for answers in a list, and as many questions in another."""
    lists = [name for name, value in record.items() if _are_texts(value) and len(value) == len(record[answers])]
    asked = next((name for name in lists if name.lower().removesuffix("s") in PROMPTS), None)
    flags = f"--map user='{asked}[]' --map assistant='{answers}[]'"
    return f"`{asked}` and `{answers}` could be the turns of one conversation: {flags}" if asked else None


def _objects_hint(names: Sequence[str], record: SourceRow) -> str | None:
    """Hint for a column of objects whose keys say little."""
    texts = next((name for name in names if _are_several_texts(record.get(name))), None)
    if texts and not any(isinstance(record.get(name), str) for name in names):
        keys, path = ", ".join(f"`{key}`" for key in record[texts]), shlex.quote(f"{texts}.KEY")
        return f"`{texts}` holds the texts {keys}: map one to each part, --map prompt={path} --map completion={path}"
    objects = next((name for name in names if are_objects(record.get(name))), None)
    if objects and not any(name.lower() in PROMPTS for name in names):
        keys, flags = ", ".join(f"`{key}`" for key in record[objects][0]), f"--map messages={shlex.quote(objects)}"
        if named := _keys_of_turns(record[objects]):
            return f"the turns could be in `{objects}`: {flags} {named}"
        said = [key for key, value in record[objects][0].items() if isinstance(value, str)]
        if len(said) == 1 and said[0] in CONTENT_KEYS:
            return f"if the turns in `{objects}` alternate: {flags} --roles user,assistant; if all ask, --roles user"
        return (
            f"`{objects}` holds objects with the keys {keys}: name them with {flags} "
            "--map messages.role=KEY --map messages.content=KEY, or for pairs --map messages.user=KEY "
            "--map messages.assistant=KEY"
        )
    return None


def _keys_of_turns(turns: Sequence[Mapping[str, Any]]) -> str:
    """Return the flags for the keys of the role, by name or values, and of the text of turns; empty without these."""
    first = turns[0]
    named = [
        *columns_named(first, ROLE_KEYS),
        *(key for key in first if all(_is_role(turn.get(key)) for turn in turns)),
    ]
    said = [key for key in first if isinstance(first[key], bool) and has_word(key, (*_USERS, *_BOTS))]
    role = next(iter((*named, *said)), None)
    texts = [key for key in first if isinstance(first[key], str) and key != role]
    content = [*columns_named(first, CONTENT_KEYS), *(texts if len(texts) == 1 else ())]
    if role is None or not content:
        return ""
    who = ("user", "assistant") if has_word(role, _USERS) else ("assistant", "user")
    roles = "" if named else f" --role true={who[0]} --role false={who[1]}"
    return f"--map messages.role={shlex.quote(role)} --map messages.content={shlex.quote(content[0])}{roles}"


_USERS, _BOTS = ("user", "human"), ("bot", "assistant", "ai", "model")
"""Words in the names of keys whose true says who speaks."""


def _is_role(value: Any) -> bool:
    return isinstance(value, str) and role_of(value, {}) is not None


def _are_several_texts(value: Any) -> bool:
    """Return whether a value is an object of several texts."""
    return isinstance(value, Mapping) and len(value) > 1 and all(isinstance(text, str) for text in value.values())


def _values_hint(record: SourceRow) -> str | None:
    """Hint for the one record of a file whose values are lists of rows, rows, or columns of one length."""
    values = list(record.values())
    if all(map(are_objects, values)):
        return _records_hint(list(record), [record])
    objects = all(isinstance(value, Mapping) for value in values) and len({tuple(value) for value in values}) == 1
    if objects and not "".join(values[0]).isdecimal():  # as pandas names its rows
        return _VALUES
    lists = all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1
    return "the values could be columns of rows: --field 'columns(.)'" if lists or objects else None


def _nested_hint(found: Sequence[tuple[str, str | None]], record: SourceRow) -> str:
    """Hint for nested turns: a whole conversation, or a prompt with the assistant's answer elsewhere."""
    if pair := opposites_hint([path for path, _ in found], record):
        return pair
    whole = [each for each in found if _ends_with_answer(each[1]) and isinstance(value_at(record, each[0]), list)]
    path, last = whole[0] if whole and isinstance(value_at(record, found[0][0]), Mapping) else found[0]
    answer = next((other for other, role in found[1:] if _ends_with_answer(role)), None)
    if not _ends_with_answer(last) and answer is not None:
        return (
            f"the turns could be in `{path}` and `{answer}`: "
            f"--map prompt={shlex.quote(path)} --map completion={shlex.quote(answer)}"
        )
    if _ends_with_answer(last) and columns_named(record, COMPLETIONS):
        return f"`{path}` could hold the turns before a question: --map history={shlex.quote(path)} --map user=COLUMN"
    outer, several, inner = path.partition("[0].")
    if several and len(value_at(record, outer) or ()) > 1:
        flags = f"--explode {shlex.quote(outer)} --map messages={shlex.quote(inner)}"
        return f"`{outer}` holds several conversations: {flags} makes a row of each"
    return f"the turns could be in `{path}`: --map messages={shlex.quote(path)}"


def _ends_with_answer(role: str | None) -> bool:
    return isinstance(role, str) and role_of(role, {}) == "assistant"


def _are_records(value: Any) -> bool:
    """Return whether a value is a list of objects whose keys are names of columns, not keys of turns."""
    if not are_objects(value):
        return False
    keys = {key.lower() for key in value[0]}
    return bool(keys & {*MESSAGES, *PROMPTS} or keys >= {"input", "output"}) and not keys & set(ROLE_KEYS)


def nested_turns(value: Any, columns: Columns, path: str = "", depth: int = 0) -> Iterator[tuple[str, str | None]]:
    """Yield the paths of a turn or a list of turns inside a row, each with the role of the last turn."""
    value = read_literal(value)
    turns = [value] if isinstance(value, dict) else value
    listed = isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns)
    keys = find_turn_keys(turns, columns) if path and listed else None
    if keys and (isinstance(value, list) or len(keys) == 2):
        role = turns[-1].get(keys.get("messages.role"))
        yield path, role if isinstance(role, str) else None
    elif depth < 5:
        for key, item in _inside(value):
            yield from nested_turns(item, columns, f"{path}{key}".removeprefix("."), depth + 1)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values of an object, or the first item of a list, each with its step of the path."""
    if isinstance(value, Mapping):
        yield from ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, list) and value:
        yield "[0]", value[0]


MARKER_ROWS = 50
"""The number of rows that are searched for speaker markers."""
_MARKER = re.compile(r"^(?:#{1,4} ?)?(?:[A-Z][A-Za-z]{0,15}|[A-Z]{2,15} [A-Z]{2,15}):", re.MULTILINE)
_RARE = 10
"""One text in so many has the marker of a known role, which is then one of all."""
_ASKING = frozenset({"human", "user", "question", "q", "prompter", "customer", "patient", "student", "instruction"})
_SYSTEMS = frozenset({"system", "context"})


def transcript_hint(texts: Sequence[str], records: Sequence[SourceRow]) -> str | None:
    """Hint for the first column of text whose lines begin with markers such as `Human:`; None if there is none.

    The texts in a list count as lines. A name that says nothing of its role is left open.
    """
    for name in texts:
        rows = [record.get(name) for record in records[:MARKER_ROWS]]
        values = ["\n".join(row) if isinstance(row, list) and are_texts(row) else row for row in rows]
        markers = _find_markers([value for value in values if isinstance(value, str)])
        if len(markers) >= 2:
            flags = " ".join(f"--marker {shlex.quote(f'{marker}={role}')}" for marker, role in _roles(markers).items())
            return f"`{name}` looks like a transcript: --map transcript={shlex.quote(name)} {flags}"
        turns: list[Sequence[Turn]] = [
            (isinstance(row, str) and parse_transcript(row, Columns())) or () for row in rows
        ]
        if all(any(turn["role"] == "assistant" for turn in row) and _is_said(row[-1]) for row in turns):
            return f"`{name}` looks like rendered text: --map text={shlex.quote(name)} reads its turns"
    return None


def _is_said(last: Turn) -> bool:
    """Return whether the last turn of rendered text is not the answer that a model is asked for."""
    return last["role"] != "assistant" or bool(last["content"])


def _find_markers(texts: Sequence[str]) -> list[str]:
    """Return the markers at the start of lines in over half of the texts, if over half of the texts begin with one.

    Those of known roles may be rarer.
    """
    found = [_MARKER.findall(text) for text in texts]
    opened = sum(_MARKER.match(text.lstrip()) is not None for text in texts)
    if 2 * opened <= len(texts):
        return []
    rows = Counter(marker for markers in found for marker in dict.fromkeys(markers))
    return [marker for marker, count in rows.items() if (_RARE if _role(marker) else 2) * count > len(texts)]


def _role(marker: str) -> str | None:
    """Return the role that the name in a marker stands for, None for a name that says nothing of it."""
    name = marker.strip("#: ").lower()
    return "system" if name in _SYSTEMS else "user" if name in _ASKING else role_of(name.replace(" ", "_"), {})


def _roles(markers: Sequence[str]) -> dict[str, str]:
    """Return the role of each marker by its name; of two, what is not the user is the assistant."""
    roles = {marker: _role(marker) or "ROLE" for marker in markers}
    speakers = [marker for marker, role in roles.items() if role not in ("system", "tool")]
    if len(speakers) == 2 and [roles[marker] for marker in speakers].count("user") == 1:
        roles |= {marker: "assistant" for marker in speakers if roles[marker] != "user"}
    return roles
