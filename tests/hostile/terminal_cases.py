# ruff: noqa: E501
"""Text that a terminal would obey, wherever chatfmt shows text: names, columns, roles, values, templates."""

from __future__ import annotations

import json

from .case import GOOD, Case, Told, lines

HIDDEN: dict[str, tuple[str, str]] = {
    "ESC": ("\x1b[31mred", "\\x1b[31mred"), "a title": ("\x1b]0;pwned\x07", "\\x1b]0;pwned\\x07"), "a link": ("\x1b]8;;http://evil\x1b\\x", "\\x1b]8;;http://evil"), "the clipboard": ("\x1b]52;c;cHduZWQ=\x07", "\\x1b]52;c;"),
    "C1": ("\x9b31m", "\\x9b31m"), "DEL": ("a\x7fb", "a\\x7fb"), "backspace": ("abc\x08\x08x", "abc\\x08\\x08x"), "CR": ("good\rbad", "good\\rbad"), "bell": ("\x07", "\\x07"), "shift out": ("\x0e", "\\x0e"),
    "right to left": ("abc\u202ecba", "abc\\u202ecba"), "an isolate": ("\u2066x\u2069", "\\u2066x\\u2069"), "zero width": ("us\u200ber", "us\\u200ber"), "a soft hyphen": ("us\u00ader", "us\\xader"), "a BOM": ("\ufeffuser", "\\ufeffuser"),
    "a line separator": ("a\u2028b", "a\\u2028b"), "a paragraph separator": ("a\u2029b", "a\\u2029b"), "a tag": ("\U000e0041", "\\U000e0041"), "private use": ("\ue000", "\\ue000"), "unassigned": ("\u0378", "\\u0378"), "next line": ("a\x85b", "a\\x85b"),
}  # fmt: skip
MARKUP: dict[str, str] = {
    "bold": "[bold]x[/bold]", "closing": "[/foo]", "a link": "[link=http://evil]x[/link]", "emoji": ":smile:", "a style": "[red on blue]", "an open bracket": "[", "escaped": "\\[bold]x", "a method": "[@click=app.bell]x", "percent": "%s %(x)s {0}",
}  # fmt: skip


def role(name: str, text: str, shown: str) -> Case:
    row = json.dumps({"messages": [{"role": text, "content": "x"}]}, ensure_ascii=False).encode()
    return Case(f"role, {name}", {"in.jsonl": lines(GOOD, row)}, Told(4, stderr=(shown,)))


def inspect(name: str, text: str, shown: str) -> Case:
    row = json.dumps({"messages": [{"role": "user", "content": text}], "v": text}, ensure_ascii=False).encode()
    return Case(f"inspect, {name}", {"in.jsonl": lines(row)}, Told(0, stdout=(shown,)), ("inspect", "in.jsonl"))


def preview(name: str, text: str, shown: str) -> Case:
    row = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    return Case(
        f"preview, {name}", {"in.jsonl": lines(row)}, Told(0, stdout=(shown,)), ("preview", "in.jsonl", "-t", "chatml")
    )


def column(name: str, text: str, shown: str) -> Case:
    row = json.dumps({text: "x", "b": 1}, ensure_ascii=False).encode()
    return Case(f"column, {name}", {"in.jsonl": lines(row)}, Told(2, stderr=(shown,)))


def raised(name: str, text: str, shown: str) -> Case:
    files = {"in.jsonl": lines(GOOD), "t.jinja": b"{{ raise_exception(" + json.dumps(text).encode() + b") }}"}
    return Case(
        f"template error, {name}",
        files,
        Told(4, stderr=(shown,)),
        ("convert", "in.jsonl", "-t", "t.jinja", "-o", "out.jsonl"),
    )


def named(name: str, text: str, shown: str) -> Case:
    file = f"{text}.jsonl"
    return Case(
        f"file name, {name}",
        {file: b"not json\n"},
        Told(4, stderr=(f"error: ./{shown}",)),
        ("convert", f"./{file}", "-o", "out.jsonl"),
    )


FILE_NAMES = {name: pair for name, pair in HIDDEN.items() if "/" not in pair[0]}
CASES: list[Case] = [
    *(role(name, *pair) for name, pair in HIDDEN.items()), *(column(name, *pair) for name, pair in list(HIDDEN.items())[::3]), *(raised(name, *pair) for name, pair in list(HIDDEN.items())[::3]),
    *(named(name, *pair) for name, pair in list(FILE_NAMES.items())[::3]), *(inspect(name, *pair) for name, pair in list(HIDDEN.items())[::5]), *(preview(name, *pair) for name, pair in list(HIDDEN.items())[::5]),
    *(role(f"markup, {name}", text, text) for name, text in MARKUP.items()), *(inspect(f"markup, {name}", text, text) for name, text in MARKUP.items() if "\\" not in text), *(preview(f"markup, {name}", text, text) for name, text in list(MARKUP.items())[::3]),
    Case("a key twice", {"in.jsonl": b'{"\\u001b[31m":1,"\\u001b[31m":2}\n'}, Told(4, stderr=("the key `\\x1b[31m` appears twice",))),
    Case("check", {"in.jsonl": lines(b'{"messages":[{"role":"r\\u001b[31m","content":"x"}]}')}, Told(1, stdout=("`r\\x1b[31m`",)), ("check", "in.jsonl")),
    Case("an option", {}, Told(2, stderr=("error: no such option: --\\x1b[31m",)), ("convert", "--\x1b[31m")), Case("a source", {}, Told(3, stderr=("no file matches `\\x1b[31m.jsonl`",)), ("convert", "\x1b[31m.jsonl")),
    Case("a template", {"in.jsonl": lines(GOOD)}, Told(2, stderr=("\\x1b[31m",)), ("convert", "in.jsonl", "-t", "\x1b[31m")), Case("a variable", {"in.jsonl": lines(GOOD)}, Told(2, stderr=("`--var \\x1b[31m` is not of the form NAME=VALUE",)), ("convert", "in.jsonl", "--var", "\x1b[31m")),
    Case("an expression", {"in.jsonl": lines(GOOD)}, Told(2, stderr=("\\x1b",)), ("convert", "in.jsonl", "--where", "'\x1b[31m' +")),
    Case("a recipe", {"r.yaml": b'source: in.jsonl\n"\\e[31mkey": 1\n'}, Told(2, stderr=("unknown key `\\x1b[31mkey`",)), ("convert", "r.yaml")),
]  # fmt: skip
