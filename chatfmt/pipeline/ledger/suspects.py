"""Judge whether a leaf that is left behind looks like part of the conversation, by its name and its values.

A name alone never decides. Text must be new (the conversation does not have its words) and no number, switch or
category; turns must have known roles; labels must be two-valued; media must be data or files. So an `answer` that
is the number at the end of the solution, a `prompt` that repeats the first turn and a `reasoning` that is `on` or `off`
are metadata.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ...dialects.chat.turns import CONTENT_KEYS, ROLE_KEYS
from ...dialects.chat.untagged_turns import ASSISTANT_KEYS, USER_KEYS
from ...dialects.kit.labels import label_of
from ...dialects.kit.names import TOOLS
from ...dialects.kit.roles import role_of
from ...dialects.kit.tool_calls import ARGUMENTS
from ...schema import TRAIN_FLAGS
from .trace import Entry

PARTS: dict[str, frozenset[str]] = {
    "reasoning": frozenset({
        "reasoning", "cot", "thought", "thoughts", "thinking", "think", "rationale", "scratchpad", "deliberation",
        "monologue",
    }),
    "system": frozenset({"system", "sys", "developer", "preamble"}),
    "history": frozenset({"history", "conversation", "conversations", "messages", "dialog", "dialogue", "turns"}),
    "completion": frozenset({
        "answer", "answers", "response", "responses", "completion", "completions", "output", "outputs", "reply",
        "replies", "solution", "solutions", "chosen", "rejected", "choices", "options", "targets", "samples",
        "candidates", "generations", "rollouts",
    }),
    "prompt": frozenset({
        "question", "query", "prompt", "instruction", "instructions", "problem", "input", "inputs", "definition",
    }),
    "context": frozenset({
        "context", "contexts", "passage", "passages", "document", "documents", "paragraph", "paragraphs", "story",
    }),
    "label": frozenset({"label", "labels", "kto", "desirable"}),
    "tools": frozenset({"tool", "tools", "toolset", "toolkit", "function", "functions", "api", "apis"}),
    "media": frozenset({
        "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "video", "videos", "audio",
        "audios",
    }),
    "train": frozenset({"loss", "mask", "masked", "train", "trained", "trainable", "weight", "weights"}),
}  # fmt: skip
"""Words in the names of leaves, by the part that they may hold; the first part wins."""
PHRASES = {
    "reasoning": "the reasoning", "system": "a system message", "history": "earlier turns", "completion": "an answer",
    "prompt": "a question", "context": "the context", "label": "a label", "tools": "tools", "media": "media",
    "train": "what to train on", "messages": "turns", "content": "content",
    "calls": "calls",
}  # fmt: skip
"""The parts in words."""
_ABOUT = frozenset({
    "id", "ids", "uuid", "type", "types", "source", "sources", "model", "models", "lang", "language", "languages",
    "name", "names", "date", "time", "timestamp", "url", "hash", "count", "counts", "len", "length", "lengths", "num",
    "number", "index", "idx", "category", "categories", "topic", "score", "scores", "tokens", "quality", "difficulty",
    "level", "tag", "tags", "embedding", "generator", "path", "file", "format", "status", "key", "version", "title",
    "original", "orig", "raw", "seed", "reference", "references", "gold", "ground", "expected", "feedback", "grade",
    "labelling", "template", "config", "configs", "rating", "ratings", "sha",
})  # fmt: skip
"""Words that make a name one of metadata: `answer_type`, `original_question`."""
_VERDICTS = frozenset({"rating", "ratings", "feedback", "vote", "votes", "verdict", "thumb", "thumbs"})
"""Words in the names of columns that are metadata unless they hold labels."""
_PRAISE = frozenset({
    "correct", "accepted", "approved", "safe", "helpful", "harmless", "liked", "good", "right", "acceptable",
    "preferred", "chosen",
})  # fmt: skip
"""Words that end the names of columns of labels whose true is good, as `is_correct`."""
_BLAME = frozenset({"rejected"})
"""Words that end the names of columns of true and false or 1 and 0 whose true is bad."""
_OF_ANSWERS = frozenset({"is", "was", "if", "answer", "response", "output", "completion", "human", "user"})
"""Words before those."""
_PLACES = frozenset({"path", "paths", "file", "files", "url", "urls"})
"""Words of `_ABOUT` that the name of a column of media may have: their values tell."""
_STEPS = 1000
"""The steps of a path that are looked at; the name of a key may be a megabyte of dots."""
_GENERIC = frozenset({"text", "content", "value", "message", "bytes", "path", "url"})
"""Names that say nothing: the object around them is what counts."""
_SWITCHES = frozenset(
    {"on", "off", "true", "false", "yes", "no", "none", "null", "n/a", "low", "medium", "high", "auto"}
)
_TWO_VALUED = frozenset({
    "true", "false", "0", "1", "-1", "+1", "0.0", "1.0", "+", "-", "yes", "no", "good", "bad", "positive", "negative",
    "chosen", "rejected", "correct", "incorrect", "right", "wrong", "accept", "reject", "accepted",
})  # fmt: skip
_NUMBER = re.compile(r"\W*[\d.,/%+-]+\W*")
_DATA = re.compile(r"data:(image|audio|video)/", re.IGNORECASE)
_MEDIA = re.compile(r"data:(image|audio|video)/|(iVBORw0KG|/9j/|R0lGOD|UklGR)"  # or base64 of PNG, JPEG, GIF, RIFF
                    r"|.*\.(jpe?g|png|gif|webp|bmp|mp3|wav|flac|ogg|mp4|webm|avi|mov)$",
                    re.IGNORECASE | re.DOTALL)  # fmt: skip
_NUMERALS = 40
"""The letters that a number has at most."""
_LONG = 8
"""The letters that a text without spaces has at least to count as several words."""
_COMPARABLE = 8
"""Text may be this many times shorter than the median text of the conversations and still be part of them."""


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: `Complex_CoT` is complex, cot; `systemPrompt` is system, prompt."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[^a-z]+", spaced.lower()) if word]


def part_named(name: str) -> str:
    """Return the part that a leaf or column of that name could hold, empty if it is none."""
    words = words_of(name)
    if not (_ABOUT - _PLACES).isdisjoint(words):
        return ""
    if not _PLACES.isdisjoint(words):
        return "" if PARTS["media"].isdisjoint(words) else "media"
    return next((part for part, known in PARTS.items() if not known.isdisjoint(words)), "")


def find_suspects(
    left: Mapping[str, Entry], columns: Mapping[str, str], turn_keys: Collection[str], texts: Sequence[str]
) -> dict[str, str]:
    """Return the paths of leaves, of turns and of tools that look like a part of the conversation, each with the part.

    `left` are leaves that are left behind, and `columns` their columns; `turn_keys` are those of them inside turns that
    are read. `texts` are some texts of the conversations, which show how long a text of these data is.
    """
    fresh = {path: entry for path, entry in left.items() if 2 * entry.copied < entry.rows or path in turn_keys}
    found: dict[str, str] = {}
    parts: set[tuple[str, str]] = set()
    for path, part in [*_objects(left, fresh), *_leaves(fresh, columns, turn_keys, texts)]:
        in_column = (columns.get(path, _root(path)), part)
        again = path not in turn_keys and in_column in parts
        if not again and found.keys().isdisjoint(outer_paths(path)):
            found[path] = part
            parts.add(in_column)
    return found


def outer_paths(path: str) -> Iterator[str]:
    """Yield the paths that a path is in, the outermost first, and the path itself."""
    ends = (end for end, character in enumerate(path) if character in ".[")
    yield from (path[:end] for end in islice(ends, _STEPS))
    yield path


def _objects(left: Mapping[str, Entry], fresh: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the paths of turns and of tools that have a `fresh` leaf, whatever they are called."""
    objects: dict[str, dict[str, Entry]] = {}
    for path, entry in left.items():
        parent, dot, key = path.rpartition(".")
        if dot:
            objects.setdefault(parent, {})[key] = entry
    paths = sorted(left)
    for path, fields in objects.items():
        is_call = ("[]." in path or "call" in path) and "description" not in fields and _is_call(path, fields, paths)
        if not any(f"{path}.{key}" in fresh for key in fields.keys() - set(ROLE_KEYS)):
            yield from [(path.rstrip("[]"), "calls")] if is_call and _has_prefix(sorted(fresh), f"{path}.") else []
            continue
        if _are_turns(fields) or (_part_of(path) == "history" and _are_pairs(fields)):
            yield path.rstrip("[]"), "messages"
        elif part_named(path.partition(".")[0]) == "tools" and not {"name", "description"}.isdisjoint(fields):
            yield path.partition(".")[0].rstrip("[]"), "tools"
        elif "name" in fields and _is_tool(path, fields, paths) and (tools := _tools_in(path)):
            yield tools, "tools"
        elif is_call:
            yield path.rstrip("[]"), "calls"


def _tools_in(path: str) -> str:
    """Return the path to the list of tools that an object is in, empty if it is in none."""
    steps = path.split(".")
    lists = [place for place, step in enumerate(steps) if step.endswith("[]") and part_named(step) == "tools"]
    return ".".join(steps[: lists[-1] + 1]).rstrip("[]") if lists else ""


def _is_tool(path: str, fields: Collection[str], paths: Sequence[str]) -> bool:
    """Return whether a named object has what a tool has; its parameters may be empty, or objects with leaves."""
    inside = not {"description", "parameters"}.isdisjoint(fields) or any(
        _has_prefix(paths, f"{path}.{key}.") for key in ("parameters", "input_schema")
    )
    return inside or (path.endswith(".function") and not _is_call(path, fields, paths))


def _has_prefix(paths: Sequence[str], prefix: str) -> bool:
    """Return whether one of the sorted paths starts with a prefix."""
    place = bisect_left(paths, prefix)
    return place < len(paths) and paths[place].startswith(prefix)


def _is_tools_text(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and '"name"' in value and '"parameters"' in value


def _is_call(path: str, fields: Collection[str], paths: Sequence[str]) -> bool:
    """Return whether an object has the name of a tool and arguments, as a call has."""
    named = not {"name", "tool", "toolName", "tool_name", "function_name"}.isdisjoint(fields)
    return named and any(_has_prefix(paths, f"{path}.{key}") for key in ARGUMENTS)


def _are_turns(fields: Mapping[str, Entry]) -> bool:
    roles = next((fields[key].values for key in (*ROLE_KEYS, "type") if key in fields), [])
    known = [role for role in roles if isinstance(role, str) and role_of(role, {})]
    contents = next((fields[key].values for key in CONTENT_KEYS if key in fields), [])
    return bool(known) and 2 * len(known) >= len(roles) and any(isinstance(text, str) for text in contents)


def _are_pairs(fields: Mapping[str, Entry]) -> bool:
    return not any(fields.keys().isdisjoint(keys) for keys in (USER_KEYS, ASSISTANT_KEYS))


def _leaves(
    left: Mapping[str, Entry], columns: Mapping[str, str], turn_keys: Collection[str], texts: Sequence[str]
) -> Iterator[tuple[str, str]]:
    for path, entry in left.items():
        inside = path in turn_keys
        says_little = not inside and _ABOUT.isdisjoint(words_of(_key_of(path)))
        part = _part_of(path) or (part_named(columns[path]) if says_little else "")
        depth = path.removeprefix(columns[path]).count(".") - (_key_of(path) in _GENERIC)
        key = path.partition("[].")[2].partition(".")[0].rstrip("[]")
        if inside and part_named(key) == "train":
            known = key in TRAIN_FLAGS or (key == "mask" and not any(entry.values))  # nothing is masked
            yield from [] if known else [(f"{path.partition('[].')[0]}[].{key}", "train")]
            continue
        if inside and key == _key_of(path) and key in (*CONTENT_KEYS, "refusal"):
            part = "content"
        if inside and depth > 1 and _are_embedded(entry.values, named=part == "media"):
            yield path.rstrip("[]"), "media"
        if not inside and _are_embedded(entry.values, named=False):
            yield path.rstrip("[]"), "media"
            continue
        if part == "system" and depth == 1 and not inside and are_like(entry.values, texts):
            yield path, "system"
            continue
        if (inside or path == columns[path]) and _are_verdicts(_key_of(path), entry.values):
            yield path, "label"
            continue
        if depth > 1 or not (part_named(columns[path]) or inside):
            continue  # metadata, or an annotation of a turn
        if inside and part == "tools" and all(map(_is_tools_text, entry.values)):
            yield path, "tools"
        if part == "train" or (part == "tools" and path.lower() not in TOOLS):
            continue  # a statistic, a name or a count of tools
        if part in _TESTS:
            yield from [(path.removesuffix("[]"), part)] if _TESTS[part](entry.values) else []
        elif part and are_like(entry.values, texts):
            yield path.removesuffix("[]"), part


def _root(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _key_of(path: str) -> str:
    return path.rpartition(".")[2].rstrip("[]")


def _part_of(path: str) -> str:
    """Return the part that the last telling name of a path could hold: `output.text` is an output."""
    parent, dot, _ = path.rpartition(".")
    return _part_of(parent) if dot and _key_of(path) in _GENERIC else part_named(_key_of(path))


def are_like(values: Sequence[Any], texts: Sequence[str]) -> bool:
    """Return whether most values are texts like those of the conversations: no numbers, switches, ids or categories.

    They are not much shorter than the usual text, and of several words if that is.
    """
    usual = median(map(len, texts)) if texts else 0
    several = bool(texts) and 2 * sum(map(_has_words, texts)) >= len(texts)
    own = [value.strip() for value in map(_decoded, values) if isinstance(value, str)]
    telling = [text for text in own if text.lower() not in _SWITCHES and not _NUMBER.fullmatch(text[:_NUMERALS])]
    telling = [text for text in telling if _has_words(text) or not several]
    return 2 * len(telling) > len(values) and _COMPARABLE * median(map(len, telling)) >= usual


def median(lengths: Iterable[int]) -> int:
    """Return the upper median; the module `statistics` would take 10 ms to import."""
    ordered = sorted(lengths)
    return ordered[len(ordered) // 2]


def _has_words(text: str) -> bool:
    """Return whether a text has several words; long text of a script without spaces counts."""
    return " " in text.strip() or "\n" in text.strip() or (not text.isascii() and len(text) >= _LONG)


def _decoded(value: Any) -> Any:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _are_labels(values: Sequence[Any]) -> bool:
    return {str(value).strip().lower() for value in values} <= _TWO_VALUED


def _are_verdicts(name: str, values: Sequence[Any]) -> bool:
    """Return whether verdicts are labels and some say bad: a rating from 1 to 5 does not, nor one that is always 0.

    Less than half may be other words, such as `neutral`.
    """
    judges = _ends_with(name, _PRAISE) or (is_blame(name) and all(isinstance(value, int) for value in values))
    judges = judges and not any(map(str.isdecimal, name))  # one of several answers
    found = [label_of(value) for value in values] if judges or not _VERDICTS.isdisjoint(words_of(name)) else []
    unclear = [value for value, label in zip(values, found, strict=False) if label is None]
    if 2 * len(unclear) >= len(values) or any(_NUMBER.fullmatch(str(value)[:_NUMERALS]) for value in unclear):
        return False
    labels = {*found} - {None}
    return labels == {True, False} or (labels == {False} and any(str(value) not in ("0", "0.0") for value in values))


def is_blame(name: str) -> bool:
    """Return whether true in a column of that name says that an answer is bad."""
    return _ends_with(name, _BLAME)


def _ends_with(name: str, known: frozenset[str]) -> bool:
    words = words_of(name)
    return bool(words) and words[-1] in known and _OF_ANSWERS.issuperset(words[:-1])


def _are_media(values: Sequence[Any]) -> bool:
    return all(isinstance(value, bytes) or (isinstance(value, str) and _MEDIA.match(value)) for value in values)


def _are_embedded(values: Sequence[Any], *, named: bool) -> bool:
    """Return whether values are media by what they hold; those that are `named` so may be paths and addresses."""
    return (named and _are_media(values)) or all(isinstance(value, str) and _DATA.match(value) for value in values)


_TESTS: dict[str, Callable[[Sequence[Any]], bool]] = {"label": _are_labels, "media": _are_media}
"""How the values of parts that are not text must look."""
