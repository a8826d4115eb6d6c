# ruff: noqa: E501
"""Paths that lead where they should not, output over input, and names that shells and parsers stumble over."""

from __future__ import annotations

from collections.abc import Mapping

from .case import GOOD, Case, Content, Error, Expected, Rows, Told, fifo, lines, link

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
DATA = lines(GOOD)
OUTSIDE = Error(3, "file.outside", "")


def card(name: str, data_files: str, expected: Expected, **files: Content) -> Case:
    text = f"---\nconfigs:\n- config_name: default\n  {data_files}\n---\n".encode()
    return Case(
        f"card, {name}",
        {"secret.jsonl": DATA, "d/README.md": text, "d/in.jsonl": DATA, **files},
        expected,
        ("convert", "d", "-o", "out.jsonl"),
    )


def given(name: str, source: str, expected: Expected, *options: str, **files: Content) -> Case:
    return Case(
        name,
        {"secret.jsonl": DATA, "d/in.jsonl": DATA, **files},
        expected,
        ("convert", source, "-o", "out.jsonl", *options),
    )


def named(name: str, file: str, source: str | None = None) -> Case:
    """A file with an odd name, which is read like any other."""
    return Case(f"name, {name}", {file: DATA}, Rows([ROW]), ("convert", source or f"./{file}", "-o", "out.jsonl"))


def out(
    name: str,
    target: str,
    expected: Expected,
    *options: str,
    source: str = "in.jsonl",
    files: Mapping[str, Content] = {},
) -> Case:
    return Case(f"out, {name}", {"in.jsonl": DATA, **files}, expected, ("convert", source, "-o", target, *options))


OWN_INPUT = "its own input"
CASES: list[Case] = [
    card("one up", "data_files: ../secret.jsonl", OUTSIDE), card("absolute", "data_files: /etc/passwd", OUTSIDE), card("one up in a list", "data_files: [in.jsonl, ../secret.jsonl]", OUTSIDE), card("one up in a split", "data_files: [{split: train, path: ../secret.jsonl}]", OUTSIDE),
    card("down and up", "data_files: x/../../secret.jsonl", OUTSIDE), card("a pattern", "data_files: ../*.jsonl", OUTSIDE), card("any depth", "data_files: '**/../../*.jsonl'", OUTSIDE), card("data_dir one up", "data_dir: ..", OUTSIDE), card("data_dir absolute", "data_dir: /etc", OUTSIDE),
    card("a link", "data_files: link.jsonl", OUTSIDE, **{"d/link.jsonl": link("../secret.jsonl")}), card("a link to a folder", "data_files: up/*.jsonl", OUTSIDE, **{"d/up": link("..")}), card("a URL", "data_files: https://evil.example/x.jsonl", Error(3, "file.missing", "no file in")), card("a file URL", "data_files: file:///etc/passwd", Error(3, "file.missing", "no file in")),
    card("home", "data_files: ~/secret.jsonl", Error(3, "file.missing", "no file in")), card("code", "data_files: in.jsonl\n  dataset_script: x.py", Rows([ROW]), **{"d/x.py": b"open('pwned','w')"}), card("code as data", "data_files: d.py", Error(3, "file.script", "the file is code, which chatfmt never runs"), **{"d/d.py": b"open('pwned','w')"}),
    card("YAML that makes objects", "data_files: !!python/object/apply:os.system ['touch pwned']", Error(3, "file.card", "the metadata of the card is not valid YAML")), card("no YAML", "data_files: [in.jsonl", Error(3, "file.card", "the metadata of the card is not valid YAML")),
    card("YAML that grows", "data_files: in.jsonl\na: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]", Rows([ROW])),
    card("a number for a name", "data_files: 7", Error(3, "file.missing", "no file in")), card("null", "data_files: null", Rows([ROW])),
    given("a linked file in a folder", "d", OUTSIDE, **{"d/link.jsonl": link("../secret.jsonl")}), given("a linked folder in a folder", "d", OUTSIDE, **{"e/x.jsonl": DATA, "d/e": link("../e")}), given("a folder that holds itself", "d", Rows([ROW]), **{"d/again": link(".")}),
    given("a linked card", "d", OUTSIDE, **{"d/README.md": link("../secret.jsonl")}), given("data_files one up", "d", OUTSIDE, "--data-files", "../secret.jsonl"), given("data_files absolute", "d", OUTSIDE, "--data-files", "/etc/passwd"), given("data_dir one up", "d", OUTSIDE, "--data-dir", ".."),
    given("a link that is named itself", "link.jsonl", Rows([ROW]), **{"link.jsonl": link("secret.jsonl")}), given("save_to_disk and a way out", "d", OUTSIDE, **{"d/state.json": b'{"_data_files":[{"filename":"../secret.jsonl"}]}', "d/dataset_info.json": b"{}"}),
    given("save_to_disk and a split outside", "d", OUTSIDE, **{"d/dataset_dict.json": b'{"splits":["../d2"]}'}), given("save_to_disk and no JSON", "d", Error(3, "file.damaged", "cannot read: "), **{"d/dataset_dict.json": b"{"}), given("save_to_disk and another kind", "d", Error(3, "file.damaged", ""), **{"d/dataset_dict.json": b'{"splits":7}'}),
    named("a space", "a b.jsonl"), named("a line end", "a\nb.jsonl"), named("a tab", "a\tb.jsonl"), named("a star", "a*.jsonl"), named("a question mark", "a?.jsonl"), named("brackets", "a[0].jsonl"), named("braces", "{a}.jsonl"), named("a dollar", "$HOME.jsonl"), named("backticks", "`touch pwned`.jsonl"),
    named("a semicolon", "a;touch pwned.jsonl"), named("a pipe", "a|b.jsonl"), named("quotes", "a'b\"c.jsonl"), named("a backslash", "a\\b.jsonl"), named("a percent", "a%20b.jsonl"), named("a hash", "a#b.jsonl"), named("an at", "a@b.jsonl"), named("a colon", "a:b.jsonl"), named("a plus", "a+b.jsonl"),
    named("a dash first", "-a.jsonl"), named("a tilde first", "~a.jsonl"), named("a dot first", ".a.jsonl"), named("an underscore first", "_a.jsonl"), named("unicode", "é日本👩‍👩‍👧.jsonl"), named("not composed", "e\u0301.jsonl"), named("capitals", "A.JSONL"), named("200 letters", "x" * 200 + ".jsonl"), named("Jinja", "{{ x }}.jsonl"),
    named("the name of a recipe", "gsm8k", "./gsm8k"), named("a name like a Hub id", "org/name", "org/name"), Case("name, a dash first and nothing before", {"-a.jsonl": DATA}, Rows([ROW]), ("convert", "-o", "out.jsonl", "--", "-a.jsonl")), named("bytes that are no text", "a\udcff.jsonl"),
    out("the input", "in.jsonl", Error(2, "", "the output `in.jsonl` is its own input"), "--overwrite"), out("the input, spelled otherwise", "./x/../in.jsonl", Error(2, "", "the output `x/../in.jsonl` is its own input"), "--overwrite", files={"x/y": b""}), out("a link to the input", "link.jsonl", Error(2, "", "the output `link.jsonl` is its own input"), "--overwrite", files={"link.jsonl": link("in.jsonl")}),
    out("the input through a link", "in.jsonl", Error(2, "", "the output `in.jsonl` is its own input"), "--overwrite", source="link.jsonl", files={"link.jsonl": link("in.jsonl")}), Case("out, a hard link of the input", {"in.jsonl": DATA, "hard.jsonl": lambda path: path.hardlink_to(path.with_name("in.jsonl"))}, Told(0), ("convert", "in.jsonl", "-o", "hard.jsonl", "--overwrite"), leaves=("hard.jsonl",)),
    out("a folder that is the input", "d", Error(2, "", "the output `d` is its own input"), "--overwrite", source="d", files={"d/data/train-00000-of-00001.jsonl": DATA}), out("a folder of other things", "d", Error(5, "output.exists", ""), files={"d/mine.txt": b"x"}), out("a folder of other things, overwritten", "d", Error(5, "output.exists", ""), "--overwrite", files={"d/mine.txt": b"x"}),
    out("a file that is there", "there.jsonl", Error(5, "output.exists", ""), files={"there.jsonl": b"mine"}), out("no such folder", "no/out.jsonl", Error(5, "output.enoent", "the folder `no`")),
    out("below a file", "in.jsonl/out.jsonl", Error(5, "output.enoent", "")), out("a foreign name", "out.csv", Error(2, "", "unsupported output format: `out.csv`")), out("an empty name", "", Error(5, "output.exists", "")), out("a name that is too long", "x" * 300 + ".jsonl", Error(5, "", "system error: File name too long")),
    out("a lock that is a link", "o", Error(5, "output.foreign", "`o/.chatfmt/lock` is a symbolic link that chatfmt did not create"), files={"mine": b"mine", "o/.chatfmt/lock": link("../../mine")}),
    out("a lock beside it that is a link", "out.jsonl", Error(5, "output.foreign", ""), files={"mine": b"mine", ".out.jsonl.chatfmt/lock": link("../mine")}),
    out("work that is a link", "o", Error(5, "output.foreign", "`o/.chatfmt` is a symbolic link"), "--overwrite", files={"mine/staged/x": b"mine", "mine/run.json": b"{}", "o/.chatfmt": link("../mine")}),
    out("shards that are a link", "o", Error(5, "output.foreign", "`o/.chatfmt/staged` is a symbolic link"), "--resume", files={"mine/x": b"mine", "o/.chatfmt/run.json": b"{}", "o/.chatfmt/staged": link("../../mine")}),
    out("rejects into a pipe", "out.jsonl", Error(2, "", "`pipe` is not a regular file"), "--on-error", "skip", "--rejects", "pipe", files={"pipe": fifo}), out("rejects into a folder", "out.jsonl", Error(2, "", "`d` is not a regular file"), "--on-error", "skip", "--rejects", "d", files={"d/x": b""}),
    Case("out, rejects of a pipe into a pipe", {"pipe": fifo}, Error(2, "", "`pipe` is not a regular file"), ("convert", "-", "--on-error", "skip", "--rejects", "pipe"), stdin=DATA),
    Case("out, a link to itself", {"in.jsonl": DATA, "loop.jsonl": link("loop.jsonl")}, Error(5, "", "system error: Too many levels of symbolic links (`"), ("convert", "in.jsonl", "-o", "loop.jsonl")),
    Case("a link to itself in a folder", {"d/in.jsonl": DATA, "d/loop.jsonl": link("loop.jsonl")}, Error(3, "file.missing", "`d/loop.jsonl` is not a regular file"), ("convert", "d", "-o", "out.jsonl")),
    Case("out, a link to nothing", {"in.jsonl": DATA, "out.jsonl": link("target.jsonl")}, Rows([ROW]), ("convert", "in.jsonl", "-o", "out.jsonl"), leaves=("target.jsonl",)), out("rejects over the input", "out.jsonl", Error(2, "", ""), "--on-error", "skip", "--rejects", "in.jsonl"), out("rejects over the output", "out.jsonl", Error(2, "", ""), "--on-error", "skip", "--rejects", "out.jsonl"),
    Case("a recipe that leads up", {"r/r.yaml": b"source: ../in.jsonl\n", "in.jsonl": DATA}, Told(3, stderr=("no such file `../in.jsonl`",)), ("convert", "r/r.yaml", "-o", "out.jsonl")), Case("a recipe of objects", {"r.yaml": b"source: !!python/object/apply:os.system ['touch pwned']\n"}, Told(2, stderr=("`r.yaml` is not valid YAML",)), ("convert", "r.yaml")),
    Case("a recipe with a key twice", {"r.yaml": b"source: a.jsonl\nsource: b.jsonl\n"}, Told(2, stderr=("key `source` appears twice",)), ("convert", "r.yaml")), Case("a recipe that is none", {"r.yaml": b"- a\n- b\n"}, Told(2, stderr=("`r.yaml` is not a recipe",)), ("convert", "r.yaml")), Case("a recipe that is no text", {"r.yaml": b"\xff\xfe\0"}, Told(2, stderr=("`r.yaml` is not UTF-8 text",)), ("convert", "r.yaml")),
]  # fmt: skip
