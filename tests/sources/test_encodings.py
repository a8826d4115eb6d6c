"""Text that is not UTF-8: the hint names the encoding, or what the text would be in those that are likely."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from chatfmt.cli import main
from chatfmt.sources.encodings import DAMAGED, NAME_IT, encoding_hint

pytest.importorskip("chardet")
TEXTS = {
    "fr": "Où est l'hôtel ? À côté", "quotes": "it’s 5 € – fine", "pl": "Gdzie leży Łódź?",
    "ru": "Какая столица России?", "ja": "日本の首都はどこですか", "zh": "中国的首都是哪里？",
    "ko": "한국의 수도는 어디입니까?",
    "el": "Ποια είναι η πρωτεύουσα;", "he": "מהי בירת ישראל", "ar": "ما هي عاصمة مصر؟",
}  # fmt: skip
CASES = [
    ("fr", "cp1252"), ("quotes", "cp1252"), ("pl", "iso8859-2"), ("pl", "cp1250"), ("ru", "koi8-r"), ("ru", "cp1251"),
    ("ja", "cp932"), ("ja", "euc_jp"), ("zh", "gb18030"), ("ko", "cp949"), ("el", "cp1253"), ("he", "cp1255"),
    ("ar", "cp1256"),
]  # fmt: skip
Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_the_hint_shows_the_right_reading(language: str, encoding: str) -> None:
    text = TEXTS[language]
    hint = encoding_hint(f'"{text}",x'.encode(encoding))
    first = next(index for index, sign in enumerate(text, 1) if not sign.isascii())
    excerpt = f'"{text}",x'[max(first - 10, 0) : first + 10]
    assert f"{encoding} reads `{excerpt}`" in hint.replace("`, which", "")


def test_a_hint_with_a_doubt_has_no_flag_to_copy() -> None:
    assert encoding_hint("Gdzie leży Łódź?".encode("iso8859-2")) == (
        f"{NAME_IT}: iso8859-2 reads `Gdzie leży Łódź?`, cp1250 reads `Gdzie leży ŁódĽ?`, "
        "iso8859-16 reads `Gdzie leży ŁódŒ?`"
    )


@pytest.mark.parametrize("line", [b"caf\xc3\xa9 \xe2\x82", "日本".encode() + b"\xe6", "naïve – ".encode() + b"\xff"])
def test_damaged_utf_8_is_no_other_encoding(line: bytes) -> None:
    assert encoding_hint(line) == DAMAGED


def test_without_chardet_the_hint_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chardet", None)
    assert encoding_hint("да".encode("koi8-r")) == (
        f'{NAME_IT}; pip install "chatfmt[encodings]" finds those that are likely'
    )


ENCODINGS = ("utf-16-le", "utf-16-be", "utf-32-le")
MOSTLY_LATIN = [(TEXTS[language], encoding) for language in ("fr", "ru", "ja", "ar") for encoding in ENCODINGS]
LONG = [(TEXTS[language] * 5, encoding) for language in ("ru", "ja", "ar") for encoding in ENCODINGS]
IDEOGRAPHS = [("一丁丂七" * 99, encoding) for encoding in ("utf-32-le", "utf-32-be")]


@pytest.mark.parametrize(("text", "encoding"), MOSTLY_LATIN + LONG + IDEOGRAPHS)
def test_utf_16_without_a_mark_is_named_and_read(text: str, encoding: str, tmp_path: Path, capsys: Output) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(f"prompt,completion\nq,{text}\n".encode(encoding))
    assert main(["convert", str(source), "-q"]) == 3
    said = capsys.readouterr().err
    assert said == (
        f"error: {source}: this is {encoding[:6].upper()}, not UTF-8 (byte 0)\nhint: use `--encoding {encoding}`\n"
    )
    assert main(["convert", str(source), "-q", "--encoding", encoding]) == 0
    assert json.loads(capsys.readouterr().out)["completion"][0]["content"] == text


@pytest.mark.parametrize("encoding", ["utf-16", "UTF-16-LE", "utf_32"])
def test_utf_8_beside_utf_16_is_not_misread(encoding: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "a.csv").write_bytes("prompt,completion\nq,Ж\n".encode(encoding))
    (tmp_path / "b.csv").write_text("prompt,completion\nq,Ж\n", "utf-8")
    assert main(["convert", str(tmp_path), "-q", "--encoding", encoding]) == 3
    assert capsys.readouterr().err == (
        f"error: b.csv: this is UTF-8, not {encoding}\n"
        "hint: `--encoding` is that of all files: convert those in another encoding in a run of their own\n"
    )


@pytest.mark.parametrize("text", [b"q,x\0yes\n", b"q\x01,x\0ye\0yes.\n", b"q,\x01\0yes, yes!\n"])
def test_a_nul_in_utf_8_is_no_utf_16(text: bytes, tmp_path: Path, capsys: Output) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(b"prompt,completion\n" + text)
    assert main(["convert", str(source), "-q"]) == 4
    assert "row 0: NUL character" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "error", "hint"),
    [
        ("a.csv", "prompt,completion\nq,Москва\n", "a.csv row 0: invalid UTF-8 (line 2, byte 18)",
         f"{NAME_IT}: koi8-r reads `q,Москва`"),
        ("b.csv", "prompt,completion,Город\nq,a,1\n", "b.csv: the header: invalid UTF-8 (line 1, byte 0)",
         f"{NAME_IT}: koi8-r reads `ompletion,Город`"),
        ("a.jsonl", '{"prompt":"q","completion":"Москва"}\n', "a.jsonl row 0: invalid UTF-8 (line 1, byte 28)",
         f'{NAME_IT}: koi8-r reads `pletion":"Москва"}}`'),
        ("a.json", '[{"prompt":"q","completion":"Москва"}]', "a.json row 0: invalid UTF-8 (line 1, byte 29)",
         f'{NAME_IT}: koi8-r reads `pletion":"Москва"}}`'),
    ],
)  # fmt: skip
def test_every_text_format_has_the_hint(
    name: str, text: str, error: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(text.encode("koi8-r"))
    assert main(["convert", name, "-q"]) != 0
    assert capsys.readouterr().err == f"error: {error}\nhint: {hint}\n"
    assert main(["convert", name, "-q", "--encoding", "koi8-r"]) == 0
