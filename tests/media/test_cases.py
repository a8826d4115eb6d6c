"""Images, videos and audio in the ways in which datasets spell them: one part for each, and a column that holds it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.render.safety.loss_finder import LossFinder
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template import builtin
from chatfmt.render.template.chat_template import ChatTemplate
from tests.conftest import run_here

from ..conftest import from_lines, succeed, write_rows

IMAGE, VIDEO, AUDIO = ({"type": kind} for kind in ("image", "video", "audio"))
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63606060600000"
    "00050001a5f645400000000049454e44ae426082"
)
STORED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def say(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def turns(question: Any, answer: Any = "a") -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def sharegpt(question: str, answer: str = "a") -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def converted(tmp_path: Path, rows: list[Any], *flags: str) -> list[dict[str, Any]]:
    source = tmp_path / "in.jsonl"
    write_rows(source, rows)
    result = succeed(run_here("convert", source, *(flags or ("--to", "messages")), "-o", "-", "-q"))
    return from_lines(result.stdout)


def refused(tmp_path: Path, rows: list[Any], *flags: str) -> str:
    source = tmp_path / "in.jsonl"
    write_rows(source, rows)
    result = run_here("convert", "in.jsonl", *(flags or ("--to", "messages")), "-o", "-", "-q", cwd=tmp_path)
    assert result.returncode in (4, 6)
    assert result.stdout == b""
    return result.stderr.decode()


CASES: dict[str, tuple[Any, Any]] = {
    "LLaVA": (
        {"id": "1", "image": "a/1.jpg", "conversations": sharegpt("<image>\nWhat?")},
        {"messages": turns([IMAGE, say("\nWhat?")]), "images": ["a/1.jpg"]},
    ),
    "LLaVA, two images": (
        {"image": ["a.jpg", "b.jpg"], "conversations": sharegpt("<image>\n<image>\nDiff?")},
        {"messages": turns([IMAGE, say("\n"), IMAGE, say("\nDiff?")]), "images": ["a.jpg", "b.jpg"]},
    ),
    "ms-swift": (
        {"messages": turns("<image><audio>What?"), "images": ["a.png"], "audios": ["a.wav"]},
        {"messages": turns([IMAGE, AUDIO, say("What?")]), "images": ["a.png"], "audios": ["a.wav"]},
    ),
    "a video": (
        {"videos": "v/a.mp4", "conversations": sharegpt("<video>Which?")},
        {"messages": turns([VIDEO, say("Which?")]), "videos": ["v/a.mp4"]},
    ),
    "a column of another name": (
        {"image_path": "a.png", "conversations": sharegpt("<image>What?")},
        {"messages": turns([IMAGE, say("What?")]), "images": ["a.png"]},
    ),
    "placeholders inside text parts": (
        {"messages": turns([say("See <image>. What?")]), "images": ["a.png"]},
        {"messages": turns([say("See "), IMAGE, say(". What?")]), "images": ["a.png"]},
    ),
    "the answer speaks of a placeholder": (
        {"messages": turns("<image>Tag?", "It is <image>."), "images": ["a.png"]},
        {"messages": turns([IMAGE, say("Tag?")], "It is <image>."), "images": ["a.png"]},
    ),
    "no place: as TRL": (
        {"messages": [{"role": "system", "content": "s"}, *turns("What?")], "images": ["a.png", "b.png"]},
        {
            "messages": [{"role": "system", "content": "s"}, *turns([IMAGE, IMAGE, say("What?")])],
            "images": ["a.png", "b.png"],
        },
    ),
    "a question about an image": (
        {"image": "a.png", "question": "What?", "answer": "a"},
        {"messages": turns([IMAGE, say("What?")]), "images": ["a.png"]},
    ),
    "all texts of the user beside an image": (
        {"messages": [*turns("<image>A?"), *turns("B?")], "images": ["a.png"]},
        {"messages": [*turns([IMAGE, say("A?")]), *turns([say("B?")])], "images": ["a.png"]},
    ),
    "no media: ordinary text": ({"messages": turns("Is <image> a tag?")}, {"messages": turns("Is <image> a tag?")}),
    "image inside a part": (
        {"messages": turns([{"type": "image", "image": "a.png", "max_pixels": 9}, say("What?")])},
        {"messages": turns([{"type": "image", "max_pixels": 9}, say("What?")]), "images": ["a.png"]},
    ),
    "image_url": (
        {"messages": turns([{"type": "image_url", "image_url": {"url": "http://e.org/a.png", "detail": "low"}}])},
        {"messages": turns([{"type": "image", "detail": "low"}]), "images": ["http://e.org/a.png"]},
    ),
    "input_audio": (
        {"messages": turns([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}])},
        {"messages": turns([AUDIO]), "audios": ["data:audio/wav;base64,AAAA"]},
    ),
    "audio_url in a part of type audio": (
        {"messages": turns([{"type": "audio", "audio_url": "a.wav"}, say("Write.")])},
        {"messages": turns([AUDIO, say("Write.")]), "audios": ["a.wav"]},
    ),
    "Anthropic": (
        {
            "messages": turns(
                [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
                    {"type": "image", "source": {"type": "url", "url": "http://e.org/b.png"}},
                ]
            )
        },
        {"messages": turns([IMAGE, IMAGE]), "images": ["data:image/png;base64,iVBO", "http://e.org/b.png"]},
    ),
    "Responses": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": "http://e.org/a.png"},
                    ],
                }
            ],
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}],
        },
        {"messages": turns([say("What?"), IMAGE]), "images": ["http://e.org/a.png"]},
    ),
    "Qwen, parts without type": (
        {"messages": turns([{"image": "a.png"}, {"type": "text", "text": "What?"}])},
        {"messages": turns([IMAGE, say("What?")]), "images": ["a.png"]},
    ),
    "frames of a video": (
        {"messages": turns([{"type": "video", "video": ["1.png", "2.png"], "fps": 2}])},
        {"messages": turns([{"type": "video", "fps": 2}]), "videos": [["1.png", "2.png"]]},
    ),
    "a column with the media of parts": (
        {"messages": turns([{"type": "image", "image": "name"}, say("?")]), "images": ["a.png"]},
        {"messages": turns([IMAGE, say("?")]), "images": ["a.png"]},
    ),
    "parts of the column and parts with their own": (
        {"messages": turns([{"type": "image", "image": "own.png"}, IMAGE, say("?")]), "images": ["column.png"]},
        {"messages": turns([IMAGE, IMAGE, say("?")]), "images": ["own.png", "column.png"]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_medium_has_a_part_and_is_in_its_column(name: str, tmp_path: Path) -> None:
    row, expected = CASES[name]
    assert converted(tmp_path, [row]) == [expected]


@pytest.mark.parametrize("name", CASES)
def test_each_medium_is_carried_with_a_template(name: str, tmp_path: Path) -> None:
    row, expected = CASES[name]
    (made,) = converted(tmp_path, [row], "-t", "gemma-4")
    assert {key: value for key, value in made.items() if key != "text"} == {
        key: value for key, value in expected.items() if key != "messages"
    }


def test_outputs_are_read_back_as_they_are(tmp_path: Path) -> None:
    rows = [expected for _, expected in CASES.values()]
    again = converted(tmp_path, rows)
    assert [{name: value for name, value in row.items() if value != []} for row in again] == rows


SKIP = "--on-error skip drops such rows"
REFUSED: dict[str, tuple[Any, str]] = {
    "more placeholders than images": (
        {"conversations": sharegpt("<image><image>what?"), "images": ["a.png"]},
        f"error: in.jsonl row 0: the conversation has places for 2 images, and the row has 1 (line 1)\nhint: {SKIP}\n",
    ),
    "fewer placeholders than images": (
        {"conversations": sharegpt("<image>what?"), "images": ["a.png", "b.png"]},
        f"error: in.jsonl row 0: the conversation has places for 1 image, and the row has 2 (line 1)\nhint: {SKIP}\n",
    ),
    "a part without an image": (
        {"messages": turns([IMAGE, say("what?")])},
        "error: in.jsonl row 0: the conversation has 1 image part, and the row has no image (line 1)\n"
        f"hint: --map images=COLUMN names the column, {SKIP}\n",
    ),
    "answers with different images": (
        {
            "prompt": [{"role": "user", "content": "Draw."}],
            "chosen": [{"role": "assistant", "content": [{"type": "image", "image": "a.png"}]}],
            "rejected": [{"role": "assistant", "content": [{"type": "image", "image": "b.png"}]}],
        },
        "error: in.jsonl row 0: the answers of the row have different images (line 1)\n"
        "hint: `--on-error skip` leaves out such rows, and --rejects FILE keeps them\n",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_whose_media_and_places_disagree_is_an_error(name: str, tmp_path: Path) -> None:
    row, message = REFUSED[name]
    flags = ("--to", "preference") if "chosen" in row else ()
    assert refused(tmp_path, [row], *flags) == message


def test_rows_with_wrong_counts_can_be_skipped(tmp_path: Path) -> None:
    rows = [{"images": ["a.png"], "conversations": sharegpt("<image>" * number)} for number in (1, 2, 1)]
    made = converted(tmp_path, rows, "--to", "messages", "--on-error", "skip", "--max-bad", "1")
    assert made == [{"messages": turns([IMAGE]), "images": ["a.png"]}] * 2


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_images_that_only_a_late_row_has(kind: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"messages": turns(f"Say {number}", "3")} for number in range(2600)]
    rows[2500] = {"messages": turns("<image> P", "3"), "images": ["a.png"]}
    source = tmp_path / f"in.{kind}"
    write_rows(source, rows)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([{"images": [], **row} for row in rows]), source)
    result = run_here("convert", source.name, "-o", "out", cwd=tmp_path)
    line = " (line 2501)" if kind == "jsonl" else ""
    assert (result.returncode, result.stderr.decode()) == (
        4,
        f"error: in.{kind} row 2500: column `images` is empty in the sample but not here, and could be the images"
        f"{line}\n"
        "hint: --map images=images reads it, --drop images leaves it behind\n",
    )
    result = run_here("convert", source.name, "-o", "out", "--map", "images=images", cwd=tmp_path)
    assert (result.returncode, b"left behind" in result.stderr) == (0, False), result.stderr.decode()
    (shard,) = (tmp_path / "out" / "data").iterdir()
    expected = [{"images": [], **row} for row in rows]
    expected[2500]["messages"] = turns([IMAGE, say(" P")], "3")
    made = datasets.Dataset.from_parquet(str(shard), cache_dir=str(tmp_path / "cache"))
    assert [{**row} for row in made] == expected


def test_rows_of_one_dataset_with_and_without_media(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "conversations": sharegpt("<image>What?")}, {"conversations": sharegpt("Is <image>?")}]
    with_image = {"messages": turns([IMAGE, say("What?")]), "images": ["a.png"]}
    assert converted(tmp_path, rows) == [with_image, {"messages": turns("Is <image>?"), "images": []}]


@pytest.mark.parametrize("flags", [("--to", "messages"), ("-t", "gemma-3")])
@pytest.mark.parametrize("size", [1, 100])
def test_every_row_of_a_parquet_output_has_a_list_of_media(flags: tuple[str, str], size: int, tmp_path: Path) -> None:
    rows = [{"messages": turns("Hi")}] * size + [{"messages": turns([{"type": "image", "image": "a.png"}])}]
    write_rows(tmp_path / "in.jsonl", rows)
    succeed(run_here("convert", "in.jsonl", *flags, "-o", "out.parquet", "-q", cwd=tmp_path))
    images = pq.read_table(tmp_path / "out.parquet").column("images")
    assert images.to_pylist() == [[]] * size + [["a.png"]]


def test_media_ride_along_with_every_view(tmp_path: Path) -> None:
    row = {"images": ["a.png", "b.png"], "messages": turns("<image>or<image>?")}
    prompt = [{"role": "user", "content": [IMAGE, say("or"), IMAGE, say("?")]}]
    text = "<bos><start_of_turn>user\n<start_of_image>or<start_of_image>?<end_of_turn>\n"
    images = {"images": ["a.png", "b.png"]}
    answer = [{"role": "assistant", "content": "a"}]
    assert converted(tmp_path, [row], "-t", "gemma-3") == [
        {"text": f"{text}<start_of_turn>model\na<end_of_turn>\n", **images}
    ]
    assert converted(tmp_path, [row], "--to", "prompt-completion") == [
        {"prompt": prompt, "completion": answer, **images}
    ]
    assert converted(tmp_path, [row], "--to", "prompt-completion", "-t", "gemma-3") == [
        {"prompt": f"{text}<start_of_turn>model\n", "completion": "a<end_of_turn>\n", **images}
    ]
    pair = {"prompt": "<image>or<image>?", "chosen": "a", "rejected": "b", **images}
    worse = [{"role": "assistant", "content": "b"}]
    assert converted(tmp_path, [pair], "--to", "preference") == [
        {"prompt": prompt, "chosen": answer, "rejected": worse, **images}
    ]


def test_media_follow_their_turns(tmp_path: Path) -> None:
    row = {"images": ["a.png", "b.png"], "messages": [*turns("<image>A?"), *turns("<image>B?")]}
    first, second = turns([IMAGE, say("A?")]), turns([IMAGE, say("B?")])
    assert converted(tmp_path, [row], "--to", "messages", "--transform", "split_turns=true") == [
        {"messages": first, "images": ["a.png"]},
        {"messages": [*first, *second], "images": ["a.png", "b.png"]},
    ]
    trailing = {"images": ["a.png", "b.png"], "messages": [*turns("<image>A?"), {"role": "user", "content": "<image>"}]}
    flags = ("--to", "messages", "--transform", "trailing_user=drop")
    assert converted(tmp_path, [trailing], *flags) == [{"messages": first, "images": ["a.png"]}]


def test_tags_in_the_text_instead_of_parts(tmp_path: Path) -> None:
    rows = [
        {"messages": turns([IMAGE, say("What?"), VIDEO]), "images": ["a.png"], "videos": ["v.mp4"]},
        {"messages": turns([{"type": "image", "image": "b.png", "detail": "low"}])},
        {"messages": turns("Hi")},
    ]
    made = converted(tmp_path, rows, "--to", "messages", "--media-tags")
    assert made == [
        {"messages": turns("<image>What?<video>"), "images": ["a.png"], "videos": ["v.mp4"]},
        {"messages": turns([{"type": "image", "detail": "low"}]), "images": ["b.png"], "videos": []},
        {"messages": turns("Hi"), "images": [], "videos": []},
    ]
    back = converted(tmp_path, made)
    assert back == converted(tmp_path, rows)


def test_conversations_about_different_images_are_no_duplicates(tmp_path: Path) -> None:
    rows = [{"image": name, "conversations": sharegpt("<image>What?")} for name in ("a.png", "b.png", "a.png")]
    assert [row["images"] for row in converted(tmp_path, rows, "--to", "messages", "--dedup")] == [["a.png"], ["b.png"]]


LISTED = "hint: `chatfmt templates list --supports {0}` shows the templates that support {0}"


FIRST = " (message 0, line 1)\n"


@pytest.mark.parametrize(
    ("template", "part", "message"),
    [
        ("chatml", IMAGE, f"`chatml` loses the image part of role `user`{FIRST}{LISTED.format('images')}\n"),
        ("llama-3", IMAGE, f"`llama-3` loses the image part of role `user`{FIRST}{LISTED.format('images')}\n"),
        (
            "gemma-3",
            AUDIO,
            "`gemma-3` loses the audio part of role `user` (message 0, line 1)\n"
            f"{LISTED.format('audios')}; `--allow-loss audios` accepts the loss\n",
        ),
    ],
)
def test_a_template_without_a_place_for_a_medium_is_named(
    template: str, part: dict[str, str], message: str, tmp_path: Path
) -> None:
    row = {"messages": turns([{**part, "url": "x.png"}, say("What?")])}
    assert refused(tmp_path, [row], "-t", template) == f"error: in.jsonl row 0: template {message}"


@pytest.mark.parametrize(("kind", "column"), [("image", "images"), ("video", "videos"), ("audio", "audios")])
def test_each_built_in_template_has_the_places_that_it_claims(kind: str, column: str) -> None:
    chat = Chat(turns([{"type": kind}, say("What?")]))
    claimed = {name for name in builtin.names() if (found := builtin.find(name)) and column in found.supports}
    lost = {
        name: [loss.field for loss in LossFinder(TemplateRenderer(ChatTemplate.load(name))).find(chat)]
        for name in builtin.names()
    }
    assert claimed
    assert {name for name, fields in lost.items() if column not in fields} == claimed


def test_the_loss_of_a_medium_can_be_accepted(tmp_path: Path) -> None:
    row = {"messages": turns([{"type": "audio", "audio": "a.wav"}, say("Write.")])}
    text = "<bos><start_of_turn>user\nWrite.<end_of_turn>\n<start_of_turn>model\na<end_of_turn>\n"
    made = converted(tmp_path, [row], "-t", "gemma-3", "--allow-loss", "audios")
    assert made == [{"text": text, "audios": ["a.wav"]}]


def test_rows_in_different_dialects(tmp_path: Path) -> None:
    rows = [
        {"conversations": sharegpt("<image>A?"), "image": "a.png"},
        {"messages": turns("<image>B?"), "images": ["b.png"]},
        {"messages": turns("C?")},
    ]
    first, second = (turns([IMAGE, say(text)]) for text in ("A?", "B?"))
    assert converted(tmp_path, rows) == [
        {"messages": first, "images": ["a.png"]},
        {"messages": second, "images": ["b.png"]},
        {"messages": turns("C?"), "images": []},
    ]


def test_a_medium_without_a_place_is_found_in_any_row(tmp_path: Path) -> None:
    picture = {"messages": turns([IMAGE, say("What?")]), "images": ["a.png"]}
    sound = {"messages": turns([AUDIO, say("What?")]), "audios": ["a.wav"]}
    message = refused(tmp_path, [picture] * 300 + [sound], "-t", "gemma-3")
    assert message.startswith("error: in.jsonl row 300: template `gemma-3` loses the audio part of role `user`")


def test_pictures_in_parquet_come_out_byte_for_byte(tmp_path: Path) -> None:
    part = pa.struct([("type", pa.string()), ("text", pa.string())])
    turn = pa.struct([("role", pa.string()), ("content", pa.list_(part))])
    rows = [turns([IMAGE, say("What?")], [say("a")]), turns([say("Hi")], [say("b")])]
    images = [[{"bytes": PNG, "path": "a.png"}], None]
    table = pa.table({"messages": pa.array(rows, pa.list_(turn)), "images": pa.array(images, pa.list_(STORED))})
    pq.write_table(table, source := tmp_path / "in.parquet")
    succeed(run_here("convert", source, "--to", "messages", "-o", tmp_path / "out.parquet", "-q"))
    made = pq.read_table(tmp_path / "out.parquet")
    assert made.schema.field("images").type == pa.list_(STORED)
    assert made.column("images").to_pylist() == [[{"bytes": PNG, "path": "a.png"}], []]
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "out.parquet"), split="train")
    assert loaded.features["images"] == datasets.List(datasets.Image())
    undecoded = loaded.cast_column("images", datasets.List(datasets.Image(decode=False)))
    assert undecoded["images"] == made.column("images").to_pylist()
    assert loaded["messages"] == rows
    succeed(run_here("convert", tmp_path / "out.parquet", "--to", "messages", "-o", tmp_path / "again.parquet", "-q"))
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()
    refusal = run_here("convert", source, "-o", "-", "-q")
    assert refusal.stderr.decode() == (
        "error: a column of type `binary` cannot be written as JSON\n"
        "hint: write Parquet: name a folder or x.parquet with -o\n"
    )


@pytest.mark.parametrize(
    "column",
    [
        pa.array([PNG, None]),
        pa.array([{"bytes": PNG, "path": None}, None], STORED),
        pa.array([{"path": None, "bytes": PNG}, None]),
        pa.array([[{"bytes": PNG, "path": None}], []], pa.large_list(STORED)),
    ],
)
def test_images_by_value_have_the_type_of_the_feature(column: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"image": column, "question": ["What?", "Who?"], "answer": ["a", "b"]})
    pq.write_table(table, source := tmp_path / "in.parquet")
    succeed(run_here("convert", source, "-t", "gemma-3", "-o", tmp_path / "out.parquet", "-q"))
    made = pq.read_table(tmp_path / "out.parquet").column("images")
    assert made.type == pa.list_(STORED)
    assert made.to_pylist() == [[{"bytes": PNG, "path": None}], []]


@pytest.mark.parametrize(
    ("name", "template", "characters"),
    [
        ("LLaVA", "qwen2.5-vl", 7),
        ("a video", "qwen2.5-vl", 7),
        ("image_url", "qwen2.5-vl", 1),
        ("input_audio", "gemma-4 --fit", 1),
    ],
)
def test_inspect_recommends_a_template_with_a_place(name: str, template: str, characters: int, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [CASES[name][0]])
    result = run_here("inspect", "in.jsonl", "--json", cwd=tmp_path)
    found = json.loads(result.stdout)
    found = found[0] if isinstance(found, list) else found
    assert found["command"] == f"chatfmt convert in.jsonl -t {template} -o in-{template.partition(' ')[0]}/"
    assert found["characters"]["median"] == characters
    succeed(run_here(*shlex.split(found["command"])[1:], "-q", cwd=tmp_path))


def test_pictures_inside_parts_of_parquet(tmp_path: Path) -> None:
    part = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", STORED)])
    turn = pa.struct([("role", pa.string()), ("content", pa.list_(part))])
    question = [{"type": "image", "image": {"bytes": PNG, "path": "a.png"}}, say("What?")]
    rows = [turns([say("Hi")], [say("b")])] * 60 + [turns(question, [say("a")])]
    pq.write_table(pa.table({"messages": pa.array(rows, pa.list_(turn))}), source := tmp_path / "in.parquet")
    succeed(run_here("convert", source, "-t", "gemma-3", "-o", tmp_path / "out.parquet", "-q"))
    made = pq.read_table(tmp_path / "out.parquet")
    assert made["text"][60].as_py().startswith("<bos><start_of_turn>user\n<start_of_image>What?")
    assert made["images"].to_pylist() == [[]] * 60 + [[{"bytes": PNG, "path": "a.png"}]]


def test_sources_with_bytes_and_with_paths(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([{"bytes": PNG, "path": None}], STORED), "question": ["Q"], "answer": ["a"]})
    pq.write_table(table, tmp_path / "in.parquet")
    write_rows(tmp_path / "in.jsonl", [{"image": "b.png", "question": "Q", "answer": "a"}])
    succeed(run_here("convert", "in.parquet", "in.jsonl", "-t", "gemma-3", "-o", "out.parquet", "-q", cwd=tmp_path))
    images = pq.read_table(tmp_path / "out.parquet")["images"].to_pylist()
    assert images == [[{"bytes": PNG, "path": None}], [{"bytes": None, "path": "b.png"}]]
