"""Cards and recipes of strangers: whatever their YAML holds, reading it ends at once, and an error has one line."""

from __future__ import annotations

import pytest

from chatfmt import recipe
from chatfmt.errors import ChatfmtError
from chatfmt.recipe import Recipe
from chatfmt.sources import resolve

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * ['*' + before])}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "it is nested deeper than 100 levels, or an alias refers to what holds it"
YAML = {
    BOMB: ": it holds more than 100,000 values",
    f"[{'a,' * 100_000}}}": ": it holds more than 100,000 values",  # what follows is not parsed
    "a: &a [*a]": f": {DEEP}",
    f"a: {'[' * 120}{']' * 120}": f": {DEEP}",
    "a: 2024-99-99": ": month must be in 1..12",
    "a: !!int ''": ": a value is not of the type of its tag",
    "a: !!timestamp then": ": a value is not of the type of its tag",
    f"a: {'1:' * 5000}1": ": a number has more than 1,000 digits",
    f"a: 0b{'1' * 20000}": ": a number has more than 1,000 digits",
    "a: *b": " at line 1, column 4: found undefined alias 'b'",
    'a: "\\ud83d"': ": half of a surrogate pair",
    "a: !!set x": " at line 1, column 4: expected a mapping node, but found scalar",
    "a: !!bool maybe": ": a value is not of the type of its tag",
    "a:\n\t- b": " at line 2, column 1: found character '\\t' that cannot start any token",
}
SHAPES = {
    "configs: 5": "`configs` in the metadata of the card is not a list of subsets",
    "configs: {a: b}": "`configs` in the metadata of the card is not a list of subsets",
    "configs: [5]": "`configs` in the metadata of the card is not a list of subsets",
    "configs: [{data_files: ''}]": "no file in `ROOT` matches ``",
    "configs: [{data_files: '**/[***.jsonl'}]": "no file in `ROOT` matches `**/[***.jsonl`",
    "configs: [{data_files: .}]": "no file in `ROOT` matches `.`",
    f"configs: [{{data_files: {'a' * 5000}}}]": f"no file in `ROOT` matches `{'a' * 5000}`",
    "configs: [{data_dir: [a], data_files: 5}]": None,
}


@pytest.fixture
def card(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n')

    def error(text: str) -> str:
        (tmp_path / "README.md").write_text(f"---\n{text}\n---\n")
        with pytest.raises(ChatfmtError) as caught:
            resolve(str(tmp_path))
        return str(caught.value).replace(str(tmp_path), "ROOT")

    return error


@pytest.mark.parametrize("text", YAML)
def test_invalid_yaml_is_one_line(tmp_path, card, text):
    assert card(text) == f"ROOT/README.md: the metadata of the card is not valid YAML{YAML[text]}"
    (tmp_path / "r.yaml").write_text(text + "\n")
    with pytest.raises(ChatfmtError) as caught:
        Recipe(**recipe.load_file(tmp_path / "r.yaml"))
    assert str(caught.value) == f"`{tmp_path}/r.yaml` is not valid YAML{YAML[text]}"


def test_escapes_of_json_are_whole_characters(tmp_path):
    """JSON is YAML, and writes an emoji as two escapes: halves could not be written to a manifest."""
    (tmp_path / "r.yaml").write_text('source: "\\ud83d\\ude00.jsonl"\n')
    assert recipe.load_file(tmp_path / "r.yaml")["source"] == "\U0001f600.jsonl"


@pytest.mark.parametrize("text", SHAPES)
def test_odd_shapes_are_one_line(card, text):
    found = card(text)
    assert "\n" not in found and found.removeprefix("ROOT: ") == (SHAPES[text] or found)
