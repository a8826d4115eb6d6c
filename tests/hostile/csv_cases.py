# ruff: noqa: E501
"""Delimited text: malformed tables are rejected, and no cell becomes a number, a date or null."""

from __future__ import annotations

from typing import Any

from .case import Case, Error, Expected, Rows

OUT = ("-o", "out.jsonl", "--keep", "all")


def row(prompt: str, completion: str, **kept: str) -> dict[str, Any]:
    turns = {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
    }
    return {**turns, **kept}


def table(name: str, content: bytes, expected: Expected, *options: str, file: str = "in.csv") -> Case:
    return Case(name, {file: content}, expected, ("convert", file, *OUT, *options))


CELLS: dict[str, str] = {
    "007": "007", "1e5": "1e5", "1.0": "1.0", "-0": "-0", "TRUE": "TRUE", "NA": "NA", "null": "null", "None": "None", "NaN": "NaN", "inf": "inf",
    "a date": "2024-01-02", "half a date": "01/02", "N/A": "N/A", "a dash": "-", "empty": "", "one space": " ", "spaces around": "  x  ", "a formula": "=1+1",
    "an at": "@SUM(A1)", "a plus": "+1", "an emoji": "👩‍👩‍👧", "a bidi mark": "\u202ex", "a BOM inside": "x\ufeff", "U+0085": "a\u0085b", "U+2028": "a\u2028b",
    "a form feed": "a\x0cb", "a vertical tab": "a\x0bb", "ESC": "\x1b[31m", "a backslash": "a\\nb", "a hash": "#x", "a list": "[1", "20 digits": "12345678901234567890",
    "a single quote": "it's", "DEL": "\x7f", "a tab": "a\tb", "a file separator": "a\x1cb",
}  # fmt: skip
QUOTED: dict[str, tuple[str, str]] = {
    "a comma": ('"a,b"', "a,b"), "a line end": ('"a\nb"', "a\nb"), "CRLF": ('"a\r\nb"', "a\r\nb"), "quotes": ('"a""b"', 'a"b'), "only quotes": ('""""""', '""'),
    "empty, quoted": ('""', ""), "spaces, quoted": ('" a "', " a "), "a quote inside a plain cell": ('a"b', 'a"b'), "blank lines": ('"a\n\n\nb"', "a\n\n\nb"),
    "a lone CR, quoted": ('"a\rb"', "a\rb"), "200,000 characters": ("x" * 200_000, "x" * 200_000), "a megabyte, quoted": ('"' + "é,\n" * 250_000 + '"', "é,\n" * 250_000),
    "JSON": ('"{""a"": [1, ""x""]}"', '{"a": [1, "x"]}'),
}  # fmt: skip
HEAD = b"prompt,completion,v\n"
GOOD = b"a,b,c\n"
BAD: dict[str, tuple[bytes, str, str]] = {
    "a field too many": (b"a,b,c,d\n", "csv.fields", "the record has 4 fields, the header has 3"), "a field too few": (b"a,b\n", "csv.fields", "the record has 2 fields, the header has 3"),
    "one field": (b"abc\n", "csv.fields", "the record has 1 field, the header has 3"), "a comma last": (b"a,b,c,\n", "csv.fields", "the record has 4 fields, the header has 3"),
    "spaces alone": (b"   \n", "csv.fields", "the record has 1 field,"), "another delimiter": (b"a;b;c\n", "csv.fields", "the record has 1 field,"),
    "something behind a quote": (b'"a"x,b,c\n', "csv.quote", "text after a closing quote"), "a space behind a quote": (b'"a" ,b,c\n', "csv.quote", "text after a closing quote"),
    "backslash for a quote": (b'"a\\"b",b,c\n', "csv.quote", "text after a closing quote"), "a NUL": (b"a\0,b,c\n", "csv.nul", "NUL character"),
    "Latin-1": (b"caf\xe9,b,c\n", "csv.encoding", "invalid UTF-8"), "half a character": (b"a\xe2\x82,b,c\n", "csv.encoding", "invalid UTF-8"),
    "a surrogate": (b"\xed\xa0\x80,b,c\n", "csv.encoding", "invalid UTF-8"), "a lone CR": (b"a,b,c\rd,e,f\n", "csv.newline", "line ends with a lone CR"),
    "two CRs and a line end": (b"a,b,c\r\r\n", "csv.newline", "line ends with a lone CR"), "CRs alone": (b"\r\r\n", "csv.newline", "line ends with a lone CR"),
}  # fmt: skip
TWO = [row("a", "b", v="c")] * 2

CASES: list[Case] = [
    *(table(f"cell, {name}", f"prompt,completion,v\na,b,{text}\n".encode(), Rows([row("a", "b", v=text)])) for name, text in CELLS.items()),
    *(table(f"quoted, {name}", f"prompt,completion,v\n{cell},b,{cell}\na,b,c\n".encode(), Rows([row(text, "b", v=text), row("a", "b", v="c")])) for name, (cell, text) in QUOTED.items()),
    *(table(f"bad, {name}", HEAD + GOOD + line + GOOD, Error(4, code, says)) for name, (line, code, says) in BAD.items()),
    *(table(f"skipped, {name}", HEAD + GOOD + line + GOOD, Rows(TWO), "--on-error", "skip", "--max-bad", "90%") for name, (line, _, _) in BAD.items()),
    table("an open quote", HEAD + GOOD + b'"a,b,c\n' + GOOD, Error(4, "csv.quote", "unclosed quote at the end of the file")),
    table("an open quote in the header", b'"prompt,completion\n' + GOOD, Error(3, "csv.quote", "the header: unclosed quote at the end of the file")),
    table("a name of two megabytes", b"x" * 2_000_000 + b",completion\na,b\n", Error(2, "", "")),
    table("two columns of a name", b"prompt,completion,prompt\n" + GOOD, Error(3, "csv.header", "two columns are named `prompt`")),
    table("two columns without a name", b"prompt,completion,,\na,b,c,d\n", Error(3, "csv.header", "two columns are named ``")),
    table("a column of ours", b"prompt,completion,#row\n" + GOOD, Error(3, "csv.header", "a column is named `#row`")),
    table("another column of ours", b"prompt,completion,#keys\n" + GOOD, Error(3, "csv.header", "a column is named `#keys`")),
    table("semicolons", b"prompt;completion\na;b\n", Error(3, "csv.delimiter", "the header has only one column")),
    table("semicolons, said so", b"prompt;completion\na;1,5\n", Rows([row("a", "1,5")]), "--delimiter", ";"),
    table("a delimiter of two", HEAD + GOOD, Error(2, "", "`--delimiter ;;` is not one character"), "--delimiter", ";;"),
    table("a quote as the delimiter", HEAD + GOOD, Error(2, "", '`--delimiter "` is not one character'), "--delimiter", '"'),
    table("a NUL in the header", b"prompt,completion,v\0\n" + GOOD, Error(3, "csv.nul", "the header: NUL character")),
    table("Latin-1 in the header", b"prompt,completion,v\xe9\n" + GOOD, Error(3, "csv.encoding", "the header: invalid UTF-8")),
    table("Latin-1, said so", b"prompt,completion,v\na,b,\xe9\n", Rows([row("a", "b", v="é")]), "--encoding", "latin-1"),
    table("UTF-16", "prompt,completion\na,b\n".encode("utf-16"), Error(3, "file.encoding", "this is UTF-16, not UTF-8")),
    table("UTF-16, said so", "prompt,completion\na,é\n".encode("utf-16"), Rows([row("a", "é")]), "--encoding", "utf-16"),
    table("UTF-16 cut in half", "prompt,completion\na,é\n".encode("utf-16")[:-1], Error(3, "file.encoding", "not utf-16: "), "--encoding", "utf-16"),
    table("an encoding that is none", HEAD + GOOD, Error(2, "", "unknown encoding `klingon`"), "--encoding", "klingon"),
    table("an encoding that is a codec", HEAD + GOOD, Error(2, "", "unknown encoding `base64`"), "--encoding", "base64"),
    table("an encoding of host names", HEAD + GOOD, Error(2, "", "unknown encoding `idna`"), "--encoding", "idna"), table("another one", b"prompt,completion\na,\xff\n", Error(2, "", "unknown encoding `punycode`"), "--encoding", "punycode"),
    table("a lone CR last", HEAD + b"a,b,c\r", Error(4, "csv.newline", "line ends with a lone CR")), table("90,000 columns", b"prompt,completion" + b",".join(b"c%d" % n for n in range(90_000)) + b"\na\n", Error(4, "csv.fields", "the record has 1 field, the header has 90001")), table("200,000 columns", b"prompt,completion" + b",".join(b"c%d" % n for n in range(200_000)) + b"\na\n", Error(3, "csv.header", "the file has 200,001 columns, more than the 100,000 that a row may have")),
    table("a BOM", b"\xef\xbb\xbf" + HEAD + GOOD, Rows(TWO[:1])), table("CRLF everywhere", (HEAD + GOOD).replace(b"\n", b"\r\n"), Rows(TWO[:1])),
    table("no line end last", (HEAD + GOOD)[:-1], Rows(TWO[:1])), table("blank lines", b"\n\n" + HEAD + b"\n" + GOOD + b"\n\r\n" + GOOD + b"\n", Rows(TWO)),
    table("only CR", (HEAD + GOOD).replace(b"\n", b"\r"), Error(3, "csv.newline", "the header: line ends with a lone CR")),
    table("only a header", HEAD, Error(3, "file.empty", "no records")), table("only a BOM", b"\xef\xbb\xbf", Error(3, "file.empty", "")),
    table("quotes taken as text", b'prompt,completion,v\na,"b,c\n', Rows([row("a", '"b', v="c")]), "--no-quote"),
    table("tabs", b"prompt\tcompletion\na,b\t\"c\td\"\n", Rows([row("a,b", "c\td")]), file="in.tsv"),
    table("1,000 columns", b"prompt,completion," + b",".join(b"c%d" % n for n in range(1000)) + b"\na,b" + b",x" * 1000 + b"\n", Rows([row("a", "b", **{f"c{n}": "x" for n in range(1000)})])),
    table("odd names of columns", "prompt,completion, a ,é,a.b,a[],\"x,y\",{{ z }}\na,b,1,2,3,4,5,6\n".encode(), Rows([row("a", "b", **{" a ": "1", "é": "2", "a.b": "3", "a[]": "4", "x,y": "5", "{{ z }}": "6"})])),
]  # fmt: skip
