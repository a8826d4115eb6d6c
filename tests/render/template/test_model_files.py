# ruff: noqa: E501
"""Templates and special tokens of a model are found as `AutoTokenizer` finds them, over real folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from chatfmt.errors import InputError, TemplateError
from chatfmt.render import ChatTemplate
from tests.render.oracle import outcome

TC, STM, MC, JINJA = "tokenizer_config.json", "special_tokens_map.json", "config.json", "chat_template.jinja"
MORE = "additional_chat_templates/"
ADDED = {"__type": "AddedToken", "lstrip": False}
TEXT = "{{ messages[0].content }}"
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
LLAMA = {"tokenizer_class": "LlamaTokenizer"}

TOKENS: dict[str, dict[str, Any]] = {
    "no class": {TC: {"bos_token": "<s>"}},
    "no tokenizer config": {MC: {"model_type": "qwen2"}},
    "only a map": {MC: {"model_type": "gpt2"}, STM: {"bos_token": {"content": "<B>"}, "eos_token": "<E>"}},
    "text": {TC: {**FAST, "bos_token": "<s>", "pad_token": ""}},
    "added token": {TC: {**FAST, "bos_token": {**ADDED, "content": "<Q>"}}},
    "bare object": {TC: {**FAST, "bos_token": {"content": "<Q>"}}},
    "number": {TC: {**FAST, "bos_token": 3}},
    "list": {TC: {**FAST, "bos_token": ["<s>"]}},
    "false": {TC: {**LLAMA, "eos_token": False}},
    "own names": {TC: {**FAST, "image_token": "<i>", "x_token": None, "add_bos_token": True, "y_token": {"content": "y"}}},
    "own names as objects": {TC: {**FAST, "video_token": {**ADDED, "content": "<v>"}}},
    "extra object": {TC: {**FAST, "image_token": "<i>", "extra_special_tokens": {"foo": "<f>", "image_token": "<j>"}}},
    "extra with added": {TC: {**FAST, "extra_special_tokens": {"audio_token": {**ADDED, "content": "<a>"}}}},
    "extra with bare": {TC: {**FAST, "extra_special_tokens": {"audio_token": {"content": "<a>"}}}},
    "extra with null": {TC: {**FAST, "extra_special_tokens": {"audio_token": None}}},
    "extra list": {TC: {**FAST, "extra_special_tokens": ["<a>"], "additional_special_tokens": ["<z>"]}},
    "extra names bos": {TC: {**LLAMA, "extra_special_tokens": {"bos_token": "<X>"}}},
    "model specific": {TC: {**FAST, "model_specific_special_tokens": {"u_token": "<u>"}}},
    "model specific and own": {TC: {**FAST, "model_specific_special_tokens": {"u_token": "<u>"}, "v_token": "<v>"}},
    "map wins": {TC: {**LLAMA, "bos_token": "<s>", "eos_token": None}, STM: {"bos_token": {"content": "<B>"}, "eos_token": "E"}},
    "map names more": {TC: {**FAST, "a_token": "<a>"}, STM: {"a_token": "<A>", "b_token": {"content": "<b>"}, "c": "<c>"}},
    "map has extra": {TC: {**FAST, "a_token": "<a>"}, STM: {"extra_special_tokens": {"audio_token": "<w>"}}},
    "map has null": {TC: {**LLAMA, "bos_token": "<a>"}, STM: {"bos_token": None}},
    "map repairs": {TC: {**LLAMA, "bos_token": {"content": "<a>"}}, STM: {"bos_token": "<b>"}},
    "map not read": {TC: {**FAST, "bos_token": "<s>", "added_tokens_decoder": {}}, STM: {"bos_token": "<B>"}},
    "null is no token": {TC: {**LLAMA, "bos_token": None}},
    "llama": {TC: LLAMA, MC: {"model_type": "llama"}},
    "llama fast": {TC: {"tokenizer_class": "LlamaTokenizerFast"}},
    "llama of mistral": {TC: LLAMA, MC: {"model_type": "mistral"}},
    "llama of phi3": {TC: LLAMA, MC: {"model_type": "phi3"}},
    "llama of unknown": {TC: LLAMA, MC: {"model_type": "zzz"}},
    "llama by bytes": {TC: LLAMA, "tokenizer.json": "ByteLevel"},
    "llama by bytes of qwen2": {TC: LLAMA, MC: {"model_type": "qwen2"}, "tokenizer.json": "ByteLevel"},
    "llama by bytes, all given": {TC: {**LLAMA, "bos_token": "a", "eos_token": "b", "unk_token": "c"}, "tokenizer.json": "ByteLevel"},
    "llama by bytes, own code": {
        TC: {**LLAMA, "auto_map": {"AutoTokenizer": ["a.B", None]}}, "tokenizer.json": "ByteLevel"
    },
    "padding": {TC: {**FAST, "chat_template": "{{ pad_token }}"}, "tokenizer.json": "padding"},
    "padding given": {TC: {**FAST, "chat_template": "{{ pad_token }}", "pad_token": None}, "tokenizer.json": "padding"},
    "padding of the class": {
        TC: {"tokenizer_class": "GPT2Tokenizer", "chat_template": "{{ pad_token }}"}, "tokenizer.json": "padding"
    },
    "qwen2 by type": {TC: FAST, MC: {"model_type": "qwen2"}},
    "qwen3 is trusted": {TC: FAST, MC: {"model_type": "qwen3"}},
    "qwen3 named qwen2": {TC: FAST, MC: {"model_type": "qwen3", "model_name": "qwen2"}},
    "another class": {TC: {"tokenizer_class": "GPT2Tokenizer"}, MC: {"model_type": "qwen3"}},
    "class of the model": {MC: {"model_type": "llama", "tokenizer_class": "LlamaTokenizer"}},
    "no class of llama": {TC: {}, MC: {"model_type": "llama"}},
    "alias": {TC: {"tokenizer_class": "BartTokenizer"}, MC: {"model_type": "llama"}},
    "code llama": {TC: {"tokenizer_class": "CodeLlamaTokenizer"}},
    "gemma": {TC: {"tokenizer_class": "GemmaTokenizerFast"}, MC: {"model_type": "gemma3_text"}},
    "cohere": {TC: {"tokenizer_class": "CohereTokenizerFast"}, MC: {"model_type": "cohere2"}},
    "bloom": {TC: {"tokenizer_class": "BloomTokenizerFast"}},
    "unknown class": {TC: {"tokenizer_class": "FooTokenizer"}, MC: {"model_type": "llama"}},
}  # fmt: skip

TEMPLATES: dict[str, dict[str, Any]] = {
    "text": {TC: {"chat_template": "X\r\n"}},
    "list": {TC: {"chat_template": [{"name": "default", "template": "D"}, {"name": "rag", "template": "R"}]}},
    "list with tools": {
        TC: {"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}
    },
    "list without default": {TC: {"chat_template": [{"name": "rag", "template": "R"}, {"name": "b", "template": "B"}]}},
    "only tool use": {TC: {"chat_template": [{"name": "tool_use", "template": "T"}]}},
    "empty list": {TC: {"chat_template": []}},
    "object": {TC: {"chat_template": {"default": "D", "x": "X"}}},
    "file": {TC: {"chat_template": "X"}, JINJA: "\ufeffJ\r\nk\rl\n"},
    "empty file": {TC: {"chat_template": "X"}, JINJA: ""},
    "file and more": {
        TC: {"chat_template": "X"},
        JINJA: "J",
        MORE + "tool_use.jinja": "T\r\n",
        MORE + "rag.jinja": "R",
    },
    "only more": {TC: {"chat_template": "X"}, MORE + "tool_use.jinja": "T"},
    "default among more": {JINJA: "J", MORE + "default.jinja": "D"},
    "only default among more": {TC: {"chat_template": "X"}, MORE + "default.jinja": "D"},
    "other files among more": {JINJA: "J", MORE + "notes.txt": "N", MORE + "deep/x.jinja": "X"},
    "map": {TC: {"chat_template": "X"}, STM: {"chat_template": "Y"}},
    "file and map": {JINJA: "J", STM: {"chat_template": "Y"}},
    "none": {TC: {}},
    "null": {TC: {"chat_template": None}},
    "empty text": {TC: {"chat_template": ""}},
    "of a processor": {TC: {}, "chat_template.json": {"chat_template": "X"}},
}


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(models.BPE(vocab={"<unk>": 0, "a": 1}, merges=[], unk_token="<unk>"))
    if files.get("tokenizer.json") == "ByteLevel":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    if files.get("tokenizer.json") == "padding":
        tokenizer.enable_padding(pad_token="<PP>")
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        if name != "tokenizer.json":
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return folder


def with_template(files: Mapping[str, Any]) -> dict[str, Any]:
    """The files with a template, where they have none."""
    has = JINJA in files or "chat_template" in files.get(TC, {})
    return dict(files) if has else {**files, JINJA: TEXT}


def assert_same_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        wanted = AutoTokenizer.from_pretrained(str(folder)).special_tokens_map
    except RecursionError:  # transformers' own, for an `unk_token` that is not in the vocabulary
        reject()
    except TypeError:
        with pytest.raises(InputError, match="is neither text nor an `AddedToken`"):
            ChatTemplate.load(folder)
    else:
        assert ChatTemplate.load(folder).special_tokens == wanted


@pytest.mark.parametrize("name", TOKENS)
def test_special_tokens_are_those_of_the_tokenizer(name: str, tmp_path: Path):
    assert_same_tokens(write(tmp_path / "model", with_template(TOKENS[name])))


TOKEN = st.sampled_from(["<a>", "", None, {**ADDED, "content": "<q>"}])
NAMES = st.sampled_from(["bos_token", "eos_token", "unk_token", "pad_token", "image_token", "foo"])
CLASSES = [
    "PreTrainedTokenizerFast",
    "LlamaTokenizerFast",
    "LlamaTokenizer",
    "Qwen2Tokenizer",
    "GPT2TokenizerFast",
    "Foo",
]
TYPES = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gemma2", "phi3", "zzz", "granite", "cohere"]


@given(
    config=st.dictionaries(NAMES, TOKEN, max_size=4),
    legacy=st.none() | st.dictionaries(NAMES, TOKEN, max_size=3),
    kind=st.none() | st.sampled_from(CLASSES),
    model_type=st.none() | st.sampled_from(TYPES),
    extra=st.none() | st.dictionaries(NAMES, st.just("<x>"), max_size=2),
    decoder=st.booleans(),
)
def test_special_tokens_of_any_folder(tmp_path_factory: Any, config, legacy, kind, model_type, extra, decoder):
    config |= {"tokenizer_class": kind} if kind else {}
    config |= {"extra_special_tokens": extra} if extra is not None else {}
    config |= {"added_tokens_decoder": {}} if decoder else {}
    files = {TC: config, JINJA: TEXT}
    files |= {STM: legacy} if legacy is not None else {}
    files |= {MC: {"model_type": model_type}} if model_type else {}
    assert_same_tokens(write(tmp_path_factory.mktemp("model"), files))


@pytest.mark.parametrize("tools", [None, [], [{"name": "f"}]], ids=["no tools", "empty tools", "a tool"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_template_is_the_one_the_tokenizer_takes(name: str, tools: Any, tmp_path: Path):
    from transformers import AutoTokenizer

    folder = write(tmp_path / "model", TEMPLATES[name])
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    wanted = outcome(lambda: ("text", tokenizer.get_chat_template(tools=tools)))
    if tokenizer.chat_template is None or tokenizer.chat_template == {}:
        with pytest.raises(InputError, match="has (no chat template|only a chat_template.json)"):
            ChatTemplate.load(folder)
    else:
        assert outcome(lambda: ("text", ChatTemplate.load(folder).select(tools))) == wanted


def test_a_named_template_is_taken_by_its_name(tmp_path: Path):
    folder = write(tmp_path / "model", TEMPLATES["list"])
    rag = ChatTemplate.load(f"{folder}#rag")
    assert (rag.name, rag.text, rag.named, rag.origin) == (f"{folder}#rag", "R", {}, "folder")
    with pytest.raises(Exception) as raised:
        ChatTemplate.load(f"{folder}#rug")
    assert str(raised.value) == f"unknown chat template of `{folder}` `rug`"
    assert raised.value.hint == "did you mean `rag`?"


def test_without_a_default_the_error_names_the_templates(tmp_path: Path):
    template = ChatTemplate.load(write(tmp_path / "model", TEMPLATES["list without default"]))
    with pytest.raises(TemplateError) as raised:
        template.choose()
    assert str(raised.value) == f"the model `{template.name}` has several chat templates and none is the default"
    assert raised.value.hint == f"name one: `{template.name}#b`, `{template.name}#rag`"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({TC: "{"}, "is not JSON: Expecting property name"),
        ({TC: "[]"}, "does not hold a JSON object"),
        ({TC: {"chat_template": 3}}, "is neither text nor a list of templates"),
        ({TC: {"chat_template": [{"name": "x"}]}}, "is neither text nor a list of templates"),
        ({TC: {}}, "has no chat template"),
        (
            {TC: {}, "chat_template.json": {}},
            "has only a chat_template.json, which processors read and tokenizers do not",
        ),
    ],
)
def test_what_is_damaged_is_said_in_words(files: Mapping[str, Any], message: str, tmp_path: Path):
    folder = write(tmp_path / "model", files)
    with pytest.raises(InputError) as raised:
        ChatTemplate.load(folder)
    assert message in str(raised.value)
    assert str(folder) in str(raised.value)


def test_a_template_that_is_not_utf8_is_refused(tmp_path: Path):
    path = tmp_path / "x.jinja"
    path.write_bytes(b"ab\xff")
    with pytest.raises(InputError) as raised:
        ChatTemplate.load(path)
    assert str(raised.value) == f"`{path}` is not UTF-8: byte 2"
