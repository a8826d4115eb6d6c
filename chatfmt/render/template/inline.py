"""Inline templates (`-t`): Jinja, or text with a field in Python format syntax per role.

Jinja is used as it is, except that outside of its tags `\\n`, `\\t` and `\\\\` are read as in Python. A form is:

    <|system|>{system_message}\\n<|user|>{user_message}\\n<|assistant|>{assistant_message}

The text is split after each field into one **segment** per role; text after the last field belongs to the last
segment. A segment consists of its leading white space (the **separator**), the rest of the text before the field, the
field, and the text after it. A conversation renders one segment per message, in the order of the messages; the first
message is rendered without its separator. The first segment has no separator of its own: if a later message uses it,
it gets the separator of the second segment, unless there is text after the last field, which then ends each round. The
generation prompt is the assistant's segment up to its field. A message whose role has no segment is an error. `{{` and
`}}` are braces; `\\n`, `\\t` and `\\\\` are read as in Python, since shells pass them on unchanged.
"""

from __future__ import annotations

import re
from string import Formatter

from msgspec import Struct
from msgspec.structs import replace

from ...errors import UsageError
from ...schema import ROLES

ESCAPE = re.compile(r"\\[nt\\]")
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}
FIELD = re.compile(r"\{(\w+?)(?:_message)?\}")


class Segment(Struct, frozen=True):
    """The text of one role: `separator` (not before the first message), `before`, the content, `after`."""

    role: str
    separator: str
    before: str
    after: str = ""


_TAG = r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}"


def is_jinja(text: str) -> bool:
    """Return whether the text is Jinja: it has a statement, or an expression and no field of a role."""
    return re.search(r"(?<!\{)\{%", text) is not None or ("{{" in text and not is_form(text))


def unescaped(text: str) -> str:
    """Return Jinja with line breaks, tabs and backslashes for `\\n`, `\\t` and `\\\\` outside of its tags."""
    return re.sub(f"({_TAG})|{ESCAPE.pattern}", lambda found: found[1] or _ESCAPES[found[0]], text, flags=re.DOTALL)


def is_form(text: str) -> bool:
    """Return whether the text has a field of a role, and so is an inline template and not a name or path."""
    return any(match[1] in ROLES for match in FIELD.finditer(text))


def to_jinja(form: str) -> str:
    """Return the Jinja template of an inline template.

    Raises UsageError for an unknown or repeated field, a conversion or a single brace.
    """
    segments = parse(form)
    cases = "".join(map(_case, segments))
    prompt = next((segment.separator + segment.before for segment in segments if segment.role == "assistant"), "")
    return (
        "{%- for message in messages %}"
        f"{{%- if message['content'] is not string %}}{{{{- raise_exception({_literal(_NOT_TEXT)}) }}}}"
        f"{cases}"
        "{%- else %}{{- raise_exception('the plain template has no field {' + message['role']|string + '_message}') }}"
        "{%- endif %}{%- endfor %}"
        f"{{%- if add_generation_prompt %}}{{{{- {_literal(prompt)} }}}}{{%- endif %}}"
    )


_NOT_TEXT = "the plain template writes text, and the content of a message is none"


def _case(segment: Segment) -> str:
    separator = f"{{%- if not loop.first %}}{{{{- {_literal(segment.separator)} }}}}{{%- endif %}}"
    after = f" + {_literal(segment.after)}" if segment.after else ""
    return (
        f"{{%- elif message['role'] == {_literal(segment.role)} %}}"
        f"{separator if segment.separator else ''}"
        f"{{{{- {_literal(segment.before)} + message['content']{after} }}}}"
    )


def parse(form: str) -> list[Segment]:
    """Return the segments of an inline template, in order."""
    segments: list[Segment] = []
    literal = ""
    for text, field, spec, conversion in _pieces(form):
        literal += text
        if field is not None:
            segments.append(_segment(literal, field, bool(spec or conversion), segments))
            literal = ""
    if literal:
        segments[-1] = replace(segments[-1], after=literal)
    elif len(segments) > 1:
        segments[0] = replace(segments[0], separator=segments[1].separator)
    return segments


def _pieces(form: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(Formatter().parse(ESCAPE.sub(lambda found: _ESCAPES[found[0]], form)))
    except ValueError as error:
        raise UsageError(f"the inline template `{form}` does not parse: {error}", hint=_HINT) from error


def _segment(literal: str, field: str, converts: bool, earlier: list[Segment]) -> Segment:
    role = field.removesuffix("_message")
    if role not in ROLES or converts:
        raise UsageError(f"the inline template has an unknown field `{field}`", hint=_HINT)
    if any(segment.role == role for segment in earlier):
        raise UsageError(f"the inline template has the field `{field}` twice", hint=_HINT)
    before = literal.lstrip() if earlier else literal
    return Segment(role, literal.removesuffix(before), before)


_HINT = (
    f"fields are {', '.join(f'{{{role}_message}}' for role in ROLES)}, each at most once; `{{{{` and `}}}}` are braces"
)


def _literal(text: str) -> str:
    """Return the text as a Jinja string literal in ASCII."""
    escaped = text.encode("unicode_escape").decode("ascii").replace("'", "\\'")
    return f"'{escaped}'"
