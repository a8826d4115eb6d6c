"""Cut the source of a template into the pieces that it prints and the tags between them, and join pieces again.

`{{ '<|im_start|>' + m.role + '\\n' + m.content }}` prints four pieces. The joined template has one tag a line, each
with a dash that removes the white space before it; so it prints exactly what its pieces print.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from ..jinja.environment import sandbox

Token = tuple[str, str]
"""The type and the text of a token of Jinja's lexer."""
_CAPTURES = ("macro", "set", "call", "filter", "generation")
_OPENERS = ("for", "if", "with", "block", "autoescape", *_CAPTURES)
_ATOMIC = frozenset(("and", "or", "not", "in", "is"))


class Piece(Struct, frozen=True):
    """A part of a template: `text` that it prints, an `expression` whose value it prints, or the inside of a `tag`."""

    kind: Literal["text", "expression", "tag"]
    source: str
    messages: tuple[str, ...] = ()
    """The names of loop variables at this place, which may be messages; the innermost last."""
    captured: bool = False
    """Whether its output goes to a macro, a variable or a filter first."""

    @property
    def prints(self) -> bool:
        return self.kind != "tag"

    @property
    def word(self) -> str:
        """The name of a tag; empty for what prints."""
        return "" if self.prints else re.split(r"\W", self.source, maxsplit=1)[0]

    def __str__(self) -> str:
        """The piece as it is written in a template."""
        if self.kind == "tag":
            return f"{{%- {self.source} %}}"
        return f"{{{{- {self.source if self.kind == 'expression' else quoted(self.source)} }}}}"


def quoted(text: str) -> str:
    """Return a Jinja string literal of the text."""
    plain = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return '"' + plain + '"' if "'" in plain and '"' not in plain else "'" + plain.replace("'", "\\'") + "'"


def cut(source: str, *, whole: bool = False) -> list[Piece]:
    """Return the pieces of a template; raises what Jinja raises for a template that does not compile.

    `whole` sums stay one piece: one with text from `|safe` escapes what is added to it.
    """
    environment = sandbox()
    environment.parse(source)
    pieces: list[Piece] = []
    open_tags: list[tuple[str, str]] = []
    for kind, tokens in _elements([(token, text) for _, token, text in environment.lex(source)]):
        captured = any(name in _CAPTURES for name, _ in open_tags)
        names = tuple(target for _, target in open_tags if target)
        if kind == "tag":
            pieces += [Piece("tag", "".join(text for _, text in tokens).strip())]
            _follow(tokens, open_tags)
        elif kind == "data":
            pieces.append(Piece("text", tokens[0][1], names, captured=captured))
        else:
            found = list(_printed(_trimmed(tokens), whole=whole))
            pieces += [Piece(piece.kind, piece.source, names, captured) for piece in found]
    return pieces


def joined(pieces: Sequence[Piece]) -> str:
    """Return the template of the pieces, one a line, indented by its blocks."""
    lines, depth = list[str](), 0
    for piece in pieces:
        goes_on = piece.word in ("else", "elif")
        depth -= goes_on or piece.word.startswith("end")
        lines.append("    " * max(depth, 0) + str(piece))
        depth += goes_on or _opens(piece.word, piece.source)
    return "\n".join(lines) + "\n"


def _opens(word: str, source: str) -> bool:
    return word in _OPENERS and not (word == "set" and "=" in source)


def _elements(tokens: Sequence[Token]) -> Iterator[tuple[str, list[Token]]]:
    """Yield `data`, `expression` and `tag` with their tokens; comments are left out."""
    inside: str | None = None
    own: list[Token] = []
    for kind, text in tokens:
        if kind in ("variable_begin", "block_begin", "comment_begin"):
            inside, own = kind, []
        elif kind in ("variable_end", "block_end", "comment_end"):
            if inside != "comment_begin":
                yield ("tag" if inside == "block_begin" else "expression"), own
            inside = None
        elif inside is not None:
            own.append((kind, text))
        elif kind == "data" and text:
            yield "data", [(kind, text)]


def _follow(tokens: Sequence[Token], open_tags: list[tuple[str, str]]) -> None:
    """Note that a tag opens or closes a block; a loop with its variable, which its `else` does not have."""
    words = [text for kind, text in tokens if kind != "whitespace"]
    name = words[0] if words else ""
    if name.startswith("end") and open_tags:
        open_tags.pop()
    elif name == "else" and open_tags and open_tags[-1][0] == "for":
        open_tags[-1] = ("for", "")
    elif name in _OPENERS and not (name == "set" and ("operator", "=") in tokens):
        open_tags.append((name, words[1] if name == "for" and words[2:3] == ["in"] else ""))


def _trimmed(tokens: Sequence[Token]) -> list[Token]:
    first = next((n for n, (kind, _) in enumerate(tokens) if kind != "whitespace"), len(tokens))
    last = max((n for n, (kind, _) in enumerate(tokens) if kind != "whitespace"), default=-1)
    return list(tokens[first : last + 1])


def _printed(tokens: list[Token], *, whole: bool) -> Iterator[Piece]:
    """Yield the pieces that an expression prints, with `if` tags for an expression that chooses."""
    tokens = _without_parentheses(tokens)
    places = dict[str, int]()
    for place, (kind, text) in _top_level(tokens):
        if kind in ("name", "operator"):
            places.setdefault(text, place)
    if "if" in places:
        yield from _choice(tokens, places["if"], whole=whole)
    elif whole or _ATOMIC & places.keys() or {"==", "!=", "<", ">", "<=", ">=", "-"} & places.keys():
        yield Piece("expression", _text(tokens))
    else:
        for part in _split(tokens):
            yield from _part(part)


def _choice(tokens: list[Token], at: int, *, whole: bool) -> Iterator[Piece]:
    """Yield the pieces of `A if C else B`."""
    depth, other = 0, len(tokens)
    for place, (kind, text) in list(_top_level(tokens)):
        if kind == "name" and place > at:
            depth += text == "if"
            if text == "else" and not depth:
                other = place
                break
            depth -= text == "else"
    yield Piece("tag", "if " + _text(tokens[at + 1 : other]))
    yield from _printed(_trimmed(tokens[:at]), whole=whole)
    if other < len(tokens):
        yield Piece("tag", "else")
        yield from _printed(_trimmed(tokens[other + 1 :]), whole=whole)
    yield Piece("tag", "endif")


def _split(tokens: list[Token]) -> list[list[Token]]:
    """Return the operands of `+` and `~`; one that has no operand on its left is part of the next."""
    parts: list[list[Token]] = [[]]
    joints = {place for place, token in _top_level(tokens) if token in (("operator", "+"), ("operator", "~"))}
    for place, token in enumerate(tokens):
        if place in joints and _trimmed(parts[-1]):
            parts.append([])
        else:
            parts[-1].append(token)
    return [_trimmed(part) for part in parts]


def _part(tokens: list[Token]) -> Iterator[Piece]:
    if tokens and all(kind in ("string", "whitespace") for kind, _ in tokens):
        literals = sandbox().lexer.wrap((1, kind, text) for kind, text in tokens if kind == "string")
        yield Piece("text", "".join(literal.value for literal in literals))
    elif _without_parentheses(tokens) != tokens:
        yield from _printed(tokens, whole=False)
    elif tokens:
        yield Piece("expression", _text(tokens))


def _top_level(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """Yield the tokens outside of all brackets, with their places."""
    depth = 0
    for place, (kind, text) in enumerate(tokens):
        if kind == "operator" and text in ("(", "[", "{"):
            depth += 1
        elif kind == "operator" and text in (")", "]", "}"):
            depth -= 1
        elif not depth:
            yield place, (kind, text)


def _without_parentheses(tokens: list[Token]) -> list[Token]:
    """Return the tokens inside parentheses that enclose all of them."""
    while tokens[:1] == [("operator", "(")] and tokens[-1] == ("operator", ")") and not list(_top_level(tokens)):
        depth = 0
        for place, (kind, text) in enumerate(tokens):
            depth += (kind == "operator" and text in "([{") - (kind == "operator" and text in ")]}")
            if not depth and place < len(tokens) - 1:
                return tokens
        tokens = _trimmed(tokens[1:-1])
    return tokens


def _text(tokens: Sequence[Token]) -> str:
    return "".join(text for _, text in tokens).strip()
