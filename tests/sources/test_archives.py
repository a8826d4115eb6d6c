"""Archives of data files are read like folders, and a sheet of a spreadsheet like a CSV file."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.errors import ChatfmtError
from chatfmt.manifest import read_manifest
from chatfmt.sources.discovery import archives

from ..conftest import read_rows, run_cli

ROWS = [
    json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "a"}]}) for q in "pqr"
]
FILES = {
    "data/one.jsonl": "\n".join(ROWS[:2]), "deep/er/two.csv": "question,answer\nr,a\n", "README.txt": "no data",
    "__MACOSX/._one.jsonl": "\0", "../../outside.json": f"[{ROWS[2]}]",
}  # fmt: skip


def write_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def write_tar(path: Path, files: dict[str, str], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("link.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return path


def questions(source: Path, out: Path, **keys: Any) -> list[str]:
    chatfmt.convert(chatfmt.Recipe(source=str(source), **keys), out=out, executor="serial")
    return [json.loads(line)["messages"][0]["content"] for line in out.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "tar.xz"])
def test_members_are_read_like_files_of_a_folder(kind: str, tmp_path: Path) -> None:
    modes = {"tar": "w", "tgz": "w:gz", "tar.xz": "w:xz"}
    path = tmp_path / "in" / f"a.{kind}"
    path.parent.mkdir()
    write_zip(path, FILES) if kind == "zip" else write_tar(path, FILES, modes[kind])
    assert questions(path, tmp_path / "out.jsonl") == ["p", "q", "r", "r"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out.jsonl"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_links_in_an_archive_are_named(kind: str, tmp_path: Path) -> None:
    """A hard link holds the text of a file that is in the archive once; none is read, or followed."""
    path = tmp_path / f"a.{kind}"
    if kind == "tar":
        write_tar(path, {"x.jsonl": ROWS[0]}, "w")
        with tarfile.open(path, "a") as archive:
            for name, type in (("hard.jsonl", tarfile.LNKTYPE), ("pipe.jsonl", tarfile.FIFOTYPE)):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = type, "x.jsonl"
                archive.addfile(member)
    else:
        write_zip(path, {"x.jsonl": ROWS[0]})
        with zipfile.ZipFile(path, "a") as added:
            link = zipfile.ZipInfo("link.jsonl")
            link.external_attr = 0o120777 << 16
            added.writestr(link, "x.jsonl")
    done = run_cli("convert", path.name, "-o", "out.jsonl", cwd=tmp_path)
    many = (
        "3 links or devices in `a.tar` (`link.jsonl` …)"
        if kind == "tar"
        else "1 link or device in `a.zip` (`link.jsonl`)"
    )
    assert done.stderr.decode().splitlines()[0] == f"note: skipped {many}: unpack it to read them"
    assert (done.returncode, len((tmp_path / "out.jsonl").read_text().splitlines())) == (0, 1)


def test_splits_job_arrays_and_the_manifest(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"train/x.jsonl": ROWS[0], "test/y.jsonl": "\n".join(ROWS[1:])})
    assert questions(path, tmp_path / "test.jsonl", split="test") == ["q", "r"]
    assert run_cli("plan", path, "--split", "all", "-o", tmp_path / "out").returncode == 0
    assert run_cli("run", tmp_path / "out", "--task", "1/1").returncode == 0
    assert run_cli("commit", tmp_path / "out").returncode == 0
    manifest = read_manifest(tmp_path / "out")
    assert {shard.split: shard.rows for shard in manifest.shards} == {"train": 1, "test": 2}
    assert [Path(each["file"]).name for each in manifest.sources if "file" in each] == ["a.zip"]


def test_a_bad_row_is_named_by_its_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"d/x.jsonl": ROWS[0] + "\n{"})
    with pytest.raises(ChatfmtError, match=r"^d/x.jsonl row 1: not JSON"):
        questions(path, tmp_path / "out.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.txt": "x"}, "no data files in `{}`"),
        ({"x.jsonl": "\n" * (70 << 20)}, "{}: unpacks to more than 1000 times its size"),
    ],
)
def test_archives_that_cannot_be_read(files: dict[str, str], said: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", files)
    with pytest.raises(ChatfmtError) as raised:
        questions(path, tmp_path / "out.jsonl")
    assert str(raised.value) == said.format(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "x"], "`in.zip` has no subset `x`, or any other"),
        (["--data-files", "x*"], "no file in `in.zip` matches `x*`"),
        (["--data-dir", "x"], "no data files in `in.zip/x`"),
    ],
)
def test_errors_name_the_archive(options: list[str], said: str, tmp_path: Path) -> None:
    write_zip(tmp_path / "in.zip", FILES)
    run = run_cli("convert", "in.zip", *options, cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()[0]) == (2 if "--name" in options else 3, f"error: {said}")


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"x.jsonl".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 300)
    with pytest.raises(ChatfmtError, match=r"a.tar: the archive cannot be read: "):
        questions(path, tmp_path / "out.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)
BOOK = (
    '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>{}</sheets></workbook>'
)
RELATIONS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}</Relationships>'
KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def write_book(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    """Write a minimal workbook: numbers, booleans and text."""

    def cell(value: object) -> str:
        if isinstance(value, bool):
            return f'<c t="b"><v>{int(value)}</v></c>'
        if isinstance(value, (int, float)):
            return f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'

    names = [f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in enumerate(sheets, 1)]
    links = [f'<Relationship Id="r{i}" Type="{KIND}/worksheet" Target="s{i}.xml"/>' for i in range(1, len(sheets) + 1)]
    parts = {
        "_rels/.rels": RELATIONS.format(
            f'<Relationship Id="r" Type="{KIND}/officeDocument" Target="xl/workbook.xml"/>'
        ),
        "xl/workbook.xml": BOOK.format("".join(names)),
        "xl/_rels/workbook.xml.rels": RELATIONS.format("".join(links)),
    }
    for number, rows in enumerate(sheets.values(), 1):
        made = "".join("<row>" + "".join(map(cell, row)) + "</row>" for row in rows)
        parts[f"xl/s{number}.xml"] = SHEET.format(made)
    return write_zip(path, parts)


TALK = [["question", "answer", "score"], ["p\n second line ", 12345678901, 2.5], ["q", True, 3]]


def test_a_sheet(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = write_book(tmp_path / "a.xlsx", {"Talk": TALK, "Empty": []})
    summary = chatfmt.convert(
        chatfmt.Recipe(source=str(path), keep="score"), out=tmp_path / "o.jsonl", executor="serial"
    )
    rows = read_rows(tmp_path / "o.jsonl")
    assert [[turn["content"] for turn in row["messages"]] for row in rows] == [
        ["p\n second line ", "12345678901"], ["q", "true"],
    ]  # fmt: skip
    assert [row["score"] for row in rows] == ["2.5", "3"]
    assert "the sheet `Talk` is read" in summary.notes


CELL = '<row r="{}"><c r="{}{}"><v>1</v></c></row></sheetData>'


LAST, BEYOND = CELL.format(2**20, "XFD", 2**20), CELL.format(10**11, "ZZZZZZ", 10**11)


@pytest.mark.parametrize("change", [("</sheetData>", LAST), ("</sheetData>", BEYOND), ("", "")])
def test_a_sheet_that_asks_for_all_memory(change: tuple[str, str], tmp_path: Path) -> None:
    """A cell in the last row and column ended the process: half a terabyte for the cells before it."""
    pytest.importorskip("python_calamine")
    write_book(tmp_path / "a.xlsx", {"Talk": TALK})
    with zipfile.ZipFile(tmp_path / "a.xlsx") as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    write_zip(tmp_path / "a.xlsx", {**parts, "xl/s1.xml": parts["xl/s1.xml"].replace(*change) if change[0] else "<"})
    (tmp_path / "csv.py").write_text("raise SystemExit('a file of the folder is imported')")
    done = run_cli("convert", "a.xlsx", "-o", "out.jsonl", cwd=tmp_path)
    memory = (
        "reading the spreadsheet takes more than 4 GiB of memory\nhint: save the sheet as CSV; or the file is damaged\n"
    )
    assert done.returncode == 3
    assert done.stderr.decode().startswith(
        f"error: a.xlsx: {memory if LAST in change else 'the file cannot be read: '}"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xlsx", "csv.py"]


def test_several_sheets(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = write_book(tmp_path / "a.xlsx", {"Notes": [["x"], ["y"]], "Talk": TALK})
    assert questions(path, tmp_path / "o.jsonl", name="Talk", drop="score") == ["p\n second line ", "q"]
    for keys, said, hint in (
        ({}, f"`{path}` has several sheets: `Notes`, `Talk`", "choose one, as in --name 'Notes'"),
        ({"name": "talk"}, "unknown sheet `talk`", "did you mean `Talk`?"),
    ):
        with pytest.raises(ChatfmtError) as raised:
            questions(path, tmp_path / "p.jsonl", **keys)
        assert (str(raised.value), raised.value.hint) == (said, hint)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"in.{kind}"
    for number, mode in enumerate("wa"):
        if kind == "zip":
            with zipfile.ZipFile(path, mode) as archive:  # type: ignore[call-overload]
                archive.writestr("a.jsonl", ROWS[number])
        else:
            with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
                member = tarfile.TarInfo("./a.jsonl" if number else "a.jsonl")
                member.size = len(ROWS[number].encode())
                tar.addfile(member, io.BytesIO(ROWS[number].encode()))
    run = run_cli("convert", path.name, "-o", "out", cwd=tmp_path)
    name = "./a.jsonl" if kind == "tar" else "a.jsonl"
    assert run.stderr.decode() == (
        f"error: {path.name}: the archive has two files named `{name}`\nhint: unpack it, and name its files\n"
    )
    assert run.returncode == 3 and [each.name for each in tmp_path.iterdir()] == [path.name]


CHAT_LOGS = (
    "[20.06.19, 15:58:57] Lena: Hi\n", "12/31/23, 9:41\u202fPM - Lena: Hi\n", "31.12.23, 21:41 - Lena: Hi\n",
    "\u200e[2023-12-31, 21:41:00] Lena: Hi\n", "31/12/2023, 21:41 - Messages are end-to-end encrypted.\n",
)  # fmt: skip


@pytest.mark.parametrize("log", CHAT_LOGS)
def test_a_chat_log_of_whatsapp_is_refused_in_words_or_read_as_text(log: str, tmp_path: Path) -> None:
    (tmp_path / "chat.txt").write_text(log * 2, encoding="utf-8")
    run = run_cli("convert", "chat.txt", cwd=tmp_path)
    error, hint = run.stderr.decode().splitlines()
    assert (run.returncode, run.stdout) == (3, b"")
    assert error == "error: chat.txt: this is a chat log, as WhatsApp exports it, not data"
    assert hint.endswith("for lines of plain text: `--no-header --no-quote --delimiter none --map text=column1`")
    lines = run_cli("convert", "chat.txt", *hint.split("`")[1].split(), cwd=tmp_path)
    assert [json.loads(line)["text"] for line in lines.stdout.splitlines()] == [log.rstrip("\n")] * 2


def test_a_table_with_dates_is_no_chat_log(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("12/31/23,question,answer\n1,Sky?,Blue.\n")
    assert b"chat log" not in run_cli("convert", "in.csv", cwd=tmp_path).stderr


def test_bzip2_in_a_zip_archive_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    """`zipfile` unpacks as much of it at once as is asked for packed: the ratio of bzip2 is up to 20,000."""
    rows = b"".join(b'{"prompt":"%d","completion":"x"}\n' % number for number in range(400_000))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.jsonl", rows)
    unpack = archives.unpacker(tmp_path / "a.zip")
    assert unpack is not None
    tracemalloc.start()
    try:
        unpack(tmp_path / "a.zip", tmp_path / "to", None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "to" / "a.jsonl").read_bytes() == rows
    assert peak < len(rows) // 4
