# ruff: noqa: E501
"""Invalid JSON, each form with its reason code, and JSON that readers tend to change, which must come out unchanged.

The value is under the key `v` of the second of three rows; `tests/sources/json/test_strict.py` has more of them with
line and byte.
"""

from __future__ import annotations

from .case import GOOD, Bad, Case, Error, Expected, Kept, Rows, lines


def row(value: bytes) -> bytes:
    return GOOD[:-1] + b',"v":' + value + b"}"


def second(name: str, line: bytes, expected: Expected) -> Case:
    return Case(name, {"in.jsonl": lines(GOOD, line, GOOD)}, expected)


SYNTAX: dict[str, bytes] = {
    "capital True": b"True", "all capitals": b"FALSE", "cut null": b"nul", "cut true": b"tru", "null and a letter": b"nulll",
    "undefined": b"undefined", "nothing": b"", "only a comma": b",", "only a colon": b":", "a bare word": b"word",
    "single quotes": b"'x'", "backticks": b"`x`", "curly quotes": "“x”".encode(), "triple quotes": b'"""x"""',
    "two strings": b'"a" "b"', "a string and a number": b'"a"1', "two numbers": b"1 2", "two commas": b"[1,,2]",
    "a comma first": b"[,1]", "only a comma in a list": b"[,]", "a colon in a list": b'["a":1]', "no comma": b"[1 2]",
    "a semicolon": b"[1;2]", "a list closed as an object": b"[1}", "an object closed as a list": b'{"a":1]',
    "a bracket too many": b"[1]]", "a brace too many": b"{}}", "a bracket too few": b"[[1]", "parentheses": b"(1)",
    "no value": b'{"a":}', "no key": b"{:1}", "no colon": b'{"a" 1}', "an equals sign": b'{"a"=1}', "an arrow": b'{"a"=>1}',
    "two colons": b'{"a"::1}', "two values": b'{"a":1:2}', "a comma for a colon": b'{"a",1}', "only a key": b'{"a"}',
    "a number as a key": b"{1:2}", "null as a key": b"{null:1}", "a list as a key": b"{[]:1}", "only a comma inside": b"{,}",
    "two commas inside": b'{"a":1,,"b":2}', "a comma first inside": b'{,"a":1}', "an object in an object": b"{{}}",
    "line comment": b"1 // x", "block comment in a list": b"[/*x*/1]", "hash comment": b"[1 # x", "ellipsis": b"[1,...]",
    "a plus": b"+1", "a fullwidth digit": "１".encode(),
    "an Arabic digit": "١".encode(), "the Euro sign": "1€".encode(), "hexadecimal, capital": b"0XFF", "octal": b"0o17",
    "binary": b"0b1", "a suffix L": b"1L", "a suffix n": b"1n", "underscores": b"1_000", "thousands": b"1,000",
    "only a point": b".", "two points": b"1.2.3", "a fraction": b"1/2", "only an exponent": b"e5", "a percent": b"5%",
    "a string joined by plus": b'"a"+"b"', "a Python bytes literal": b'b"x"', "a set": b"{1}", "a tuple": b"(1,)",
    "an open string": b'"x', "an escape at the end": b'"x\\"', "\\x": b'"\\x00"', "\\a": b'"\\a"', "\\0": b'"\\0"',
    "\\'": b"\"\\'\"", "\\U": b'"\\U0001F600"', "\\u and three digits": b'"\\u00e"', "\\u and no digit": b'"\\u"',
    "\\u and a letter too far": b'"\\u00g0"', "\\u and a sign": b'"\\u+123"', "\\u and a space": b'"\\u 123"',
    "\\u{}": b'"\\u{1F600}"', "\\ and a space": b'"\\ "', "ESC": b'"\x1b[31m"', "unit separator": b'"\x1f"',
    "backspace": b'"\x08"', "a CR in a string": b'"a\rb"', "vertical tab as space": b"[\x0b1]", "NUL as space": b"[\x001]",
    "U+2028 as space": "[\u20281]".encode(), "an em space": "[\u20031]".encode(), "U+0085 as space": "[\u00851]".encode(),
    "JSONP": b'f({"a":1})', "a record separator": b"\x1e1", "DEL as space": b"\x7f1",
    "an XSSI prefix": b")]}'", "an HTML entity": b"&quot;x&quot;", "base64 without quotes": b"aGVsbG8=", "a date": b"2024-01-02",
    "a zero byte behind": b"1\x00", "a shy Nan": b"Nan", "hexadecimal float": b"0x1p3",
}  # fmt: skip
NUMBERS: dict[str, bytes] = {
    "NaN in a list": b"[NaN]", "-NaN": b"-NaN", "-Infinity in an object": b'{"a":-Infinity}', "Infinity": b"Infinity",
    "two zeros": b"00", "a zero first, negative": b"-012", "a zero before a fraction": b"00.5", "a point last": b"[1.]",
    "a point, then an exponent": b"1.e5", "an exponent without digits": b"1e", "a plus and no digits": b"1e+",
    "a minus and no digits": b"1E-", "1e309": b"1e309", "-1e309": b"[-1e309]", "1.8e308": b"1.8e308", "1e999999999": b"1e999999999",
    "400 digits and a point": b"9" * 400 + b".0", "4,301 digits": b"1" * 4301, "a sign and a letter": b"-x", "two signs": b"--1",
    "a sign apart": b"- 1", "only a sign": b"-", "NaN as a key": b"{NaN:1}", "inf": b"inf",
}  # fmt: skip
ENCODING: dict[str, bytes] = {
    "a lone continuation byte": b'"\x80"', "FE": b'"\xfe"', "FF": b'"\xff"', "an overlong slash, three bytes": b'"\xe0\x80\xaf"',
    "an overlong NUL": b'"\xc0\x80"', "a low surrogate as bytes": b'"\xed\xb0\x80"', "a pair of surrogates as bytes": b'"\xed\xa0\xbd\xed\xb8\x80"',
    "five bytes": b'"\xf8\x88\x80\x80\x80"', "above U+10FFFF": b'"\xf5\x80\x80\x80"', "a lead byte before the quote": b'"\xe2"',
    "Windows-1252": b'"\x93x\x94"', "Shift-JIS": b'"\x82\xa0"', "Latin-1 in a nested key": b'{"\xe9":1}', "EUC-KR": b'"\xb0\xa1"',
}  # fmt: skip
SURROGATES: dict[str, bytes] = {
    "a high half": b'"\\uD83D"', "a high half and text": b'"\\uD83Dx"', "two high halves": b'"\\uD83D\\uD83D"',
    "a low half first": b'"\\uDE00\\uD83D"', "a half in a key": b'{"\\uD800":1}', "a half deep inside": b'[[{"a":"\\udfff"}]]',
    "a half before another escape": b'"\\uD83D\\n"',
}  # fmt: skip
DUPLICATES: dict[str, bytes] = {
    "twice in an object": b'{"a":1,"a":1}', "twice, of another kind": b'{"a":null,"a":[]}', "empty keys": b'{"":1,"":2}',
    "once spelled out": b'{"\\u0072ole":1,"role":2}', "in a list in an object": b'{"x":[{"k":1,"j":2,"k":3}]}',
    "far apart": b'{"k":0,' + b",".join(b'"%d":0' % n for n in range(500)) + b',"k":1}', "an escaped slash": b'{"a/b":1,"a\\/b":2}',
}  # fmt: skip
DEEP: dict[str, bytes] = {
    "lists, one too deep": b"[" * 128 + b"]" * 128, "objects, one too deep": b'{"a":' * 128 + b"1" + b"}" * 128,
    "by turns": b'[{"a":' * 64 + b"1" + b"}]" * 64, "50,000 lists": b"[" * 50_000 + b"]" * 50_000,
    "50,000 objects": b'{"":' * 50_000 + b"1" + b"}" * 50_000, "50,000 lists, none closed": b"[" * 50_000,
}  # fmt: skip
LINES: dict[str, tuple[bytes, str]] = {
    "text": (b"just text", "json.syntax"), "a list of numbers": (b"[1, 2]", "json.not_object"), "a string": (b'"x"', "json.not_object"),
    "false": (b"false", "json.not_object"), "a negative number": (b"-1", "json.not_object"), "a list of both": (b'[{"a":1},2]', "json.not_object"),
    "two rows on a line": (GOOD + GOOD, "json.syntax"), "two rows and a space": (GOOD + b" " + GOOD, "json.syntax"),
    "two rows and a comma": (GOOD + b"," + GOOD, "json.syntax"), "a comma behind": (GOOD + b",", "json.syntax"),
    "a comma before": (b"," + GOOD, "json.syntax"), "a cut row": (GOOD[:-1], "json.syntax"), "half a row": (GOOD[:30], "json.syntax"),
    "the other half": (GOOD[30:], "json.syntax"), "a BOM": (b"\xef\xbb\xbf" + GOOD, "json.encoding"), "a NUL": (b"\0", "json.syntax"),
    "a NUL before": (b"\0" + GOOD, "json.syntax"), "a NUL behind": (GOOD + b"\0", "json.syntax"), "a log line": (b"INFO: " + GOOD, "json.syntax"),
    "a merge conflict": (b"<<<<<<< HEAD", "json.syntax"), "a header of CSV": (b"role,content", "json.syntax"), "YAML": (b"a: 1", "json.syntax"),
    "a comment line": (b"// " + GOOD, "json.syntax"), "dots": (b"...", "json.syntax"), "lone CR for a line end": (GOOD + b"\r" + GOOD, "json.syntax"),
    "a record separator": (b"\x1e" + GOOD, "json.syntax"), "binary": (bytes(range(128, 200)), "json.syntax"), "server-sent": (b"data: " + GOOD, "json.syntax"),
    "the end of a stream": (b"data: [DONE]", "json.syntax"), "a key of ours": (GOOD[:-1] + b',"#row":1}', "json.key"),
    "another key of ours": (GOOD[:-1] + b',"#keys":[]}', "json.key"), "an empty list": (b"[]", "json.not_object"),
}  # fmt: skip
VALUES: dict[str, bytes] = {
    "zero": b"0", "minus zero": b"-0", "zero, a double": b"0.0", "minus zero, a double": b"-0.0", "one, a double": b"1.0",
    "an exponent": b"1E+2", "a small one": b"1e-7", "no double holds it": b"9007199254740993", "2^63": b"9223372036854775808",
    "below -2^63": b"-9223372036854775809", "2^64": b"18446744073709551616", "30 digits": b"123456789012345678901234567890",
    "4,300 digits": b"7" * 4300, "the smallest double": b"5e-324", "a denormal": b"2.2250738585072011e-308", "the largest": b"1.7976931348623157e308",
    "1e22 and 1e23": b"[1e22,1e23]", "a long fraction": b"3.141592653589793238462643383279", "kinds in a list": b"[1,1.0,true,null,\"1\"]",
    "an exponent of zero": b"0e+1", "a double as whole as an integer": b"100000000000000000000.0", "both kinds under a key": b'[{"a":1},{"a":1.0}]',
    "every escape": b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', "U+0000": b'"\\u0000"', "U+FFFF": b'"\\uFFFF"', "a pair": b'"\\uD83D\\uDE00"', "the same as bytes": "\"😀\"".encode(),
    "DEL and C1": '"\x7f\x80\x9b"'.encode(), "line separators": '"\u2028\u2029\u0085"'.encode(), "a BOM in a string": '"\ufeffx"'.encode(),
    "composed and not": '"\u00e9 e\u0301"'.encode(), "bidi": '"\u202eabc\u2066"'.encode(), "joined emoji": '"👩‍👩‍👧‍👦"'.encode(), "tags": '"\U000e0041"'.encode(),
    "private use": '"\ue000\U0010fffd"'.encode(), "noncharacters": '"\ufdd0\U0001ffff"'.encode(), "edges": b'"  \\n\\t "', "empty": b'""',
    "None": b'"None"', "nan": b'"nan"', "null": b'"null"', "true": b'"true"', "007": b'"007"', "1e5": b'"1e5"', "1.0 as text": b'"1.0"',
    "a date": b'"2024-02-30"', "a time with a zone": b'"2024-01-02T03:04:05+02:00"', "JSON in text": b'"{\\"a\\": [1]}"', "a list in text": b'"[1,2]"',
    "a backslash and u": b'"\\\\u0041"', "HTML": b'"<b>&amp;</b>"', "a megabyte": b'"' + b"x" * 1_000_000 + b'"', "a megabyte of escapes": b'"' + b"\\u00e9" * 170_000 + b'"',
    "null itself": b"null", "an empty list": b"[]", "an empty object": b"{}", "nulls in a list": b"[null,null]", "null under a key": b'{"a":null}',
    "keys out of order": b'{"b":1,"a":2,"c":{"z":1,"y":2}}', "an empty key": b'{"":1," ":2}', "keys alike but for case": b'{"a":1,"A":2}',
    "keys alike but for normal form": '{"\u00e9":1,"e\u0301":2}'.encode(), "keys that engines know": b'{"__proto__":1,"constructor":2,"$ref":"#"}',
    "keys of ours inside": b'{"#row":1,"#keys":["x"]}', "keys with dots and brackets": b'{"a.b":1,"a[]":2,"a\\"b":3}', "a NUL in a key": b'{"a\\u0000":1}',
    "turns of other keys": b'[{"role":"a"},{"content":null},{}]', "turns and no turn": b'[{"role":"a"},1]', "lists of lists": b"[[[]],[[1],[]]]",
    "127 levels": b"[" * 127 + b"]" * 127, "5,000 keys": b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(5000)) + b"}", "spaces everywhere": b' \t[ 1 , { "a" : 2 } ] \t',
    "a Git LFS pointer as text": b'"version https://git-lfs.github.com/spec/v1"', "an address": b'"<x at 0x7f0000000000>"', "Jinja": b'"{{ 7*7 }}{% raw %}"',
}  # fmt: skip


def pair(one: bytes, other: bytes) -> bytes:
    """Rows whose `v` are of different kinds."""
    return lines(row(one), row(other), GOOD, row(b"null"))


MIXED: dict[str, bytes] = {
    "text, then a list": pair(b'"x"', b"[1]"), "text, then a number": pair(b'"1"', b"1"), "an integer, then a double": pair(b"1", b"1.5"),
    "an object, then a list": pair(b'{"a":1}', b'[{"a":1}]'), "turns, then text": pair(b'[{"role":"x"}]', b'"x"'), "null, then text": pair(b"null", b'"x"'),
    "absent, null, text": lines(GOOD, row(b"null"), row(b'"x"')), "true, then 1": pair(b"true", b"1"), "dates, then words": pair(b'"2024-01-01"', b'"x"'),
    "a key first seen late": lines(*[GOOD] * 300, row(b'{"late":1}')), "a kind changed late": lines(*[row(b'"x"')] * 300, row(b"[1]")),
    "another order of keys": lines(row(b'{"a":1,"b":2}'), row(b'{"b":2,"a":1}')), "keys come and go": lines(row(b'{"a":1}'), row(b'{"b":null}'), row(b"{}")),
    "turns with more keys": pair(b'[{"role":"x","content":null}]', b'[{"content":"y","name":1}]'), "an empty list, then turns": pair(b"[]", b'[{"role":"x"}]'),
}  # fmt: skip
FILES: list[Case] = [
    Case("CRLF", {"in.jsonl": (GOOD + b"\r\n") * 3}, Kept()), Case("no line end last", {"in.jsonl": GOOD + b"\n" + GOOD}, Kept()),
    Case("blank lines", {"in.jsonl": b"\n \t\n" + GOOD + b"\n\r\n\n" + GOOD + b"\n\n"}, Kept()), Case("a BOM first", {"in.jsonl": b"\xef\xbb\xbf" + lines(GOOD)}, Kept()),
    Case("an array as .jsonl", {"in.jsonl": b"[" + GOOD + b",\n" + GOOD + b"]"}, Kept()),
    Case("an array", {"in.json": b"[\n" + GOOD + b"\n,\n" + GOOD + b"]\n"}, Kept(), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array with a BOM", {"in.json": b"\xef\xbb\xbf[" + GOOD + b"]"}, Kept(), ("convert", "in.json", "-o", "out.jsonl")),
    Case("lines as .json", {"in.json": lines(GOOD, GOOD)}, Kept(), ("convert", "in.json", "-o", "out.jsonl")),
    Case("two BOMs", {"in.jsonl": b"\xef\xbb\xbf" * 2 + lines(GOOD)}, Error(4, "json.encoding", "a byte order mark inside the file")),
    Case("a BOM before an element", {"in.json": b"[" + GOOD + b",\xef\xbb\xbf" + GOOD + b"]"}, Error(4, "json.encoding", "a byte order mark"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("a document and its records", {"in.json": b'{"v":1,"data":[' + GOOD + b"]}"}, Rows([{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}]), ("convert", "in.json", "-o", "out.jsonl", "--field", "data")),
    Case("a document without a field", {"in.json": b'{"v":1,\n"data":[' + GOOD + b"]}"}, Error(3, "json.document", "the file is one JSON object, not a list of records"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("a document that goes on", {"in.json": b'{"data":[' + GOOD + b"]} garbage"}, Error(3, "json.syntax", "extra data after the value, and no comma before it"), ("convert", "in.json", "-o", "out.jsonl", "--field", "data")),
    Case("a document that is cut", {"in.json": b'{"data":[' + GOOD + b"]"}, Error(3, "json.syntax", "not JSON: "), ("convert", "in.json", "-o", "out.jsonl", "--field", "data")),
    Case("a document with a key twice", {"in.json": b'{"data":[],"data":[' + GOOD + b"]}"}, Error(3, "json.duplicate_key", "the key `data` appears twice"), ("convert", "in.json", "-o", "out.jsonl", "--field", "data")),
    Case("a field that is not there", {"in.json": b'{"data":[' + GOOD + b"]}"}, Error(3, "json.field", "`--field rows`: no `rows` there"), ("convert", "in.json", "-o", "out.jsonl", "--field", "rows")),
    Case("an array that goes on", {"in.json": b"[" + GOOD + b"]" + GOOD}, Error(3, "json.syntax", "data outside of the array of records"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array that is cut", {"in.json": b"[" + GOOD + b"," + GOOD}, Error(3, "file.truncated", "the array does not end"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array that is cut in a row", {"in.json": b"[" + GOOD + b"," + GOOD[:20]}, Error(3, "file.truncated", "the array does not end"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array with two commas", {"in.json": b"[" + GOOD + b",," + GOOD + b"]"}, Error(4, "json.syntax", "not JSON: "), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array with a comma last", {"in.json": b"[" + GOOD + b",]"}, Error(4, "json.syntax", "not JSON: "), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array without commas", {"in.json": b"[" + GOOD + b"\n" + GOOD + b"]"}, Error(4, "json.syntax", "extra data after the value, and no comma before it"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array in an array", {"in.json": b"[[[" + GOOD + b"]]]"}, Error(4, "json.not_object", "the record is a list, not an object"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("an array of text", {"in.json": b'["a","b"]'}, Error(4, "json.not_object", "the record is text, not an object"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("50,000 open brackets", {"in.json": b"[" * 50_000}, Error(3, "file.truncated", "the array does not end"), ("convert", "in.json", "-o", "out.jsonl")),
    Case("a key twice in an array", {"in.json": b"[" + GOOD + b',{"messages":[],"messages":[]}]'}, Error(4, "json.duplicate_key", "the key `messages` appears twice"), ("convert", "in.json", "-o", "out.jsonl")),
]  # fmt: skip

CASES: list[Case] = [
    *(second(f"syntax, {name}", row(value), Bad("json.syntax", "")) for name, value in SYNTAX.items()),
    *(second(f"number, {name}", row(value), Bad("json.number", "")) for name, value in NUMBERS.items()),
    *(second(f"encoding, {name}", row(value), Bad("json.encoding", "invalid UTF-8")) for name, value in ENCODING.items()),
    *(second(f"surrogate, {name}", row(value), Bad("json.surrogate", "half of a surrogate pair")) for name, value in SURROGATES.items()),
    *(second(f"duplicate, {name}", row(value), Bad("json.duplicate_key", "the key `")) for name, value in DUPLICATES.items()),
    *(second(f"depth, {name}", row(value), Bad("json.depth", "nested deeper than 128 levels")) for name, value in DEEP.items()),
    *(second(f"line, {name}", value, Bad(code, "")) for name, (value, code) in LINES.items()),
    *(second(f"kept, {name}", row(value), Kept()) for name, value in VALUES.items()),
    *(Case(f"kinds, {name}", {"in.jsonl": content}, Kept()) for name, content in MIXED.items()),
    *(Case(f"file, {case.name}", case.files, case.expected, case.command) for case in FILES),
]  # fmt: skip
