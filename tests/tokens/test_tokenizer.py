"""Token counts, labels and masks; the masks against transformers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chatfmt import Recipe, convert
from chatfmt.errors import InputError, MissingExtra, OutputError
from chatfmt.render.masks.masker import Masker
from chatfmt.render.single import Chat
from chatfmt.tokens import load, over_length, split_turns
from chatfmt.tokens.worker import mask_as_transformers, token_mask
from tests.conftest import run_cli, write_rows
from tests.render.templates import CHATML, CONVERSATIONS, TOKENS, known_templates, say, template_renderer
from tests.stand_in_hub import StandInHub

tokenizers = pytest.importorskip("tokenizers")
CORPUS = [
    "Name a colour. Green, like moss.",
    "<|im_start|>user\nWhy? Because.<|im_end|>\n",
    "日本 🙂 é line number 3",
] * 20


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small byte-level BPE tokenizer, trained here."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=[*TOKENS.values(), "<|im_start|>", "<|im_end|>"]
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of whole words that has no token for whitespace, and one for all unknown words."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "Green": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(TOKENS.values()))
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def test_counts_add_no_special_tokens(byte_level: Path) -> None:
    tokenizer = load(str(byte_level))
    counts = tokenizer.count(pa.array(["<|im_start|>", None, "", "<s></s>"]))
    assert counts.to_pylist() == [1, None, 0, 2]
    assert load(str(byte_level.parent)).count(pa.array(["<|im_end|>"])).to_pylist() == [1]


def test_labels_are_the_ids_of_trained_tokens(byte_level: Path) -> None:
    tokenizer = load(str(byte_level))
    mask = Masker(template_renderer(CHATML)).mask(CONVERSATIONS["turns"])
    texts, spans = pa.array([mask.text, None]), pa.array([[list(span) for span in mask.spans], None])
    columns = {name: column.to_pylist() for name, column in tokenizer.columns(texts, spans).items()}
    assert [rows[1] for rows in columns.values()] == [None] * 4
    ids, labels, trained = (columns[name][0] for name in ("input_ids", "labels", "assistant_masks"))
    assert len(ids) == len(labels) == len(trained) == tokenizer.count(texts).to_pylist()[0]
    assert labels == [i if on else -100 for i, on in zip(ids, trained, strict=True)]
    inner = tokenizers.Tokenizer.from_file(str(byte_level))
    kept = [label for label in labels if label != -100]
    assert inner.decode(kept, skip_special_tokens=False) == "".join(mask.text[start:end] for start, end in mask.spans)


@pytest.mark.parametrize("kind", ["byte_level", "words"])
def test_masks_equal_those_of_transformers(kind: str, request: pytest.FixtureRequest) -> None:
    transformers = pytest.importorskip("transformers")
    file = request.getfixturevalue(kind)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **TOKENS)
    ours, compared = load(str(file)), 0
    for name, text in known_templates()[::6]:
        masker = Masker(template_renderer(text, name))
        if not masker.renderer.has_generation_tag() or "strftime_now" in text:
            continue
        for id, chat in CONVERSATIONS.items():
            asked: dict[str, Any] = {"tools": chat.tools, "chat_template": text, "return_assistant_tokens_mask": True}
            try:
                expected = theirs.apply_chat_template(list(chat.messages), **asked, return_dict=True)
            except Exception:
                continue
            if any(start == end for start, end in masker.renderer.tracked(chat)[1]):
                continue  # a block that prints nothing, for which transformers may mark the token around it
            mask = masker.mask(chat)
            spans = pa.array([[list(span) for span in mask.spans]], pa.list_(pa.list_(pa.int64())))
            columns = ours.columns(pa.array([mask.text]), spans, as_transformers=True)
            assert columns["input_ids"].to_pylist() == [expected["input_ids"]], (name, id)
            assert columns["assistant_masks"].to_pylist() == [expected["assistant_masks"]], (name, id)
            compared += 1
    assert compared >= 20


def test_a_span_that_ends_between_tokens_does_not_run_on(words: Path) -> None:
    encoding = tokenizers.Tokenizer.from_file(str(words)).encode("Green \n red blue")
    assert token_mask(encoding, [(0, 7)]) == [1, 0, 0]
    assert mask_as_transformers(encoding, [(0, 7)]) == [1, 1, 1]
    assert token_mask(encoding, [(6, 12)]) == [0, 1, 0]
    assert mask_as_transformers(encoding, [(5, 12)]) == [0, 0, 0]
    assert token_mask(encoding, []) == [0, 0, 0] and token_mask(encoding, [(3, 3)]) == [0, 0, 0]


def test_every_token_of_a_character_is_trained(byte_level: Path) -> None:
    encoding = tokenizers.Tokenizer.from_file(str(byte_level)).encode("a🦉")
    assert len(encoding.ids) > 2
    assert token_mask(encoding, [(1, 2)]) == [0] + [1] * (len(encoding.ids) - 1)
    assert sum(mask_as_transformers(encoding, [(1, 2)])) == 1


def test_rows_that_are_too_long_are_errors_with_their_row() -> None:
    errors = over_length(pa.array([3, None, 5, 4]), 4)
    assert [(error.at.row, error.message) for error in errors] == [(2, "5 tokens, over the limit of 4")]
    assert errors[0].code == "token.length"


def test_turns_are_split_where_a_user_begins() -> None:
    system, tool = say("system", "s"), say("tool", "r")
    users, answers = [say("user", f"q{n}") for n in range(4)], [say("assistant", f"a{n}") for n in range(4)]
    chat = [system, users[0], answers[0], users[1], answers[1], tool, answers[2], users[2], users[3], answers[3]]
    short = split_turns(chat, lambda turns: len(turns) <= 5)
    assert short == [[system, *chat[1:3]], [system, *chat[3:7]], [system, *chat[7:]]]
    assert split_turns(chat, lambda turns: len(turns) <= 7) == [[system, *chat[1:7]], [system, *chat[7:]]]
    assert split_turns(chat, lambda turns: True) == [chat]
    assert split_turns(chat, lambda turns: len(turns) <= 4) is None
    assert split_turns(chat[7:], lambda turns: len(turns) <= 2) is None
    assert split_turns(chat[3:5], lambda turns: True) == [chat[3:5]]
    assert split_turns([], lambda turns: True) == []


def test_what_is_no_tokenizer_says_so(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="is not a tokenizer: "):
        load(str(tmp_path))
    with pytest.raises(InputError) as caught:
        load(str(tmp_path / "none.json"))
    assert (
        caught.value.hint
        == "--tokenizer needs a tokenizer.json, a folder with one, or the id of a Hub model, OWNER/NAME"
    )


def test_the_tokenizer_of_a_model_on_the_hub(byte_level: Path, tmp_path: Path) -> None:
    """An id may have a dot, as in `Qwen/Qwen3-0.6B`; errors are those of a template of the Hub."""
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    local = run_cli("stats", "in.jsonl", "-t", "chatml", "--tokenizer", byte_level, "--json", cwd=tmp_path)
    with StandInHub() as hub:
        hub.commit("models/acme/Chat-0.6B", {"tokenizer.json": byte_level.read_bytes()})
        hub.commit("models/acme/slow", {"tokenizer.model": b"x"})
        env = hub.env(tmp_path / "home")

        def stats(model: str, **more: str) -> Any:
            command = ("stats", "in.jsonl", "-t", "chatml", "--tokenizer", model, "--json")
            return run_cli(*command, cwd=tmp_path, env={**env, **more})

        assert stats("acme/Chat-0.6B").stdout == local.stdout != b""
        assert stats("acme/Chat-0.6B", HF_HUB_OFFLINE="1").stdout == local.stdout
        assert [stats(model).stderr.decode().splitlines()[0] for model in ("acme/slow", "acme/none")] == [
            "error: the model `acme/slow` has no `tokenizer.json`",
            "error: the Hub has no model `acme/none`, or it is private",
        ]
        offline = stats("acme/none", HF_HUB_OFFLINE="1").stderr.decode().splitlines()
    assert offline == [
        "error: `tokenizer.json` of the model `acme/none` is not in the local cache",
        "hint: unset HF_HUB_OFFLINE to download it",
    ]


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, byte_level: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra) as caught:
        load(str(byte_level))
    assert caught.value.hint == 'pip install "chatfmt[tokens]"; in a checkout: pip install ".[tokens]"'


def test_a_blank_answer_has_its_stop_token_trained(byte_level: Path) -> None:
    mask = Masker(template_renderer(CHATML)).mask(Chat([say("user", "x"), say("assistant", "")]))
    columns = load(str(byte_level)).columns(pa.array([mask.text]), pa.array([[list(span) for span in mask.spans]]))
    assert sum(columns["assistant_masks"].to_pylist()[0]) == 1


def test_a_run_is_not_continued_with_another_tokenizer(byte_level: Path, words: Path, tmp_path: Path) -> None:
    data, tokenizer, out = tmp_path / "in.jsonl", tmp_path / "tokenizer.json", tmp_path / "out"
    data.write_text('{"messages":[{"role":"user","content":"Green"},{"role":"assistant","content":"moss"}]}\n')
    tokenizer.write_bytes(byte_level.read_bytes())
    recipe = Recipe(source=str(data), template="chatml", tokenizer=str(tokenizer))
    assert not convert(recipe, out, workers=1).already_complete
    assert convert(recipe, out, workers=1, resume=True).already_complete
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "tokenizer.json"
    copy.write_bytes(byte_level.read_bytes())
    moved = replace(recipe, tokenizer=str(copy))
    assert convert(moved, out, workers=1, resume=True).already_complete
    tokenizer.write_bytes(words.read_bytes())
    with pytest.raises(OutputError):
        convert(recipe, out, workers=1, resume=True)


TRICKY = [
    "plain ascii", "Why?   Because.\n\n", "日本 🙂 é line", "cafe\u0301 and caf\u00e9", "  ", "▁ a▁b", "", "e\u0301",
    "<|im_start|>user\n🦉🦉<|im_end|>", "\u200d🙂\x00",
]  # fmt: skip


def byte_fallback() -> Any:
    """A tokenizer with `▁` for the blank and bytes for what it does not know, as SentencePiece models have."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "a": 257, "é": 258, "日": 259, "▁a": 260}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [("▁", "a")], byte_fallback=True))
    tokenizer.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    replace_blank = tokenizers.decoders.Replace("▁", " ")
    tokenizer.decoder = tokenizers.decoders.Sequence([replace_blank, tokenizers.decoders.ByteFallback()])
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


def composing(byte_level: Path) -> Any:
    """A byte-level tokenizer that composes letters and accents first."""
    tokenizer = tokenizers.Tokenizer.from_file(str(byte_level))
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    return tokenizer


@pytest.mark.parametrize("as_transformers", [False, True])
@pytest.mark.parametrize("kind", ["byte_level", "words", "fallback", "composing"])
def test_masks_are_those_of_the_offsets(
    kind: str, as_transformers: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    file = tmp_path / "tokenizer.json"
    if kind in ("byte_level", "words"):
        file = request.getfixturevalue(kind)
    else:
        made = byte_fallback() if kind == "fallback" else composing(request.getfixturevalue("byte_level"))
        made.save(str(file))
    texts, spans = [], []
    for text in TRICKY:
        cuts = range(len(text) + 1)
        for found in ([], *([[a, b]] for a in cuts for b in cuts if a <= b), [[0, 1], [2, len(text)]]):
            if all(stop <= len(text) for _, stop in found):
                texts.append(text)
                spans.append(found)
    columns = load(str(file)).columns(pa.array(texts), pa.array(spans), as_transformers=as_transformers)
    inner = tokenizers.Tokenizer.from_file(str(file))
    encodings = inner.encode_batch(texts, add_special_tokens=False)
    find = mask_as_transformers if as_transformers else token_mask
    assert len(texts) > 500
    assert columns["input_ids"].to_pylist() == [encoding.ids for encoding in encodings]
    expected = [list(map(int, find(encoding, found))) for encoding, found in zip(encodings, spans, strict=True)]
    assert columns["assistant_masks"].to_pylist() == expected


def test_blanks_are_trained_whatever_the_post_processor_trims(byte_level: Path, tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer.from_file(str(byte_level))
    inner.normalizer = tokenizers.normalizers.NFC()
    inner.post_processor = tokenizers.processors.ByteLevel(trim_offsets=True)
    inner.save(str(tmp_path / "tokenizer.json"))
    for text in ("if x:\n        return", "e\u0301:\n        return"):
        columns = load(str(tmp_path)).columns(pa.array([text]), pa.array([[[0, len(text)]]]))
        assert set(columns["assistant_masks"].to_pylist()[0]) == {1}
        assert columns["labels"] == columns["input_ids"]
        assert set(columns["attention_mask"].to_pylist()[0]) == {1}
