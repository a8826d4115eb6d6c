"""A tokenizer of bytes and special tokens, and random models of a few thousand weights: nothing is downloaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from chatfmt import ChatTemplate

SPECIAL = re.compile(r"<\|[a-z_]+\|>|<(?:start|end)_of_turn>")
SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def make_tokenizer(template: ChatTemplate, folder: Path) -> Any:
    """Write and return a fast tokenizer with the special tokens of a template; it adds the template's BOS, if any."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "ĊĊ", "Ġt", "he"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ"), ("Ġ", "t"), ("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("[\\r\\n]+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokens = {"pad_token": "<|pad|>", **template.special_tokens}
    tokenizer.add_special_tokens(sorted({*tokens.values(), *SPECIAL.findall(template.text)}))
    if bos := tokens.get("bos_token"):
        first = {"id": "bos", "ids": [tokenizer.token_to_id(bos)], "tokens": [bos]}  # the token may have a colon
        tokenizer.post_processor = processors.TemplateProcessing(single="bos $A", special_tokens=[first])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)
    fast.chat_template = template.text
    fast.save_pretrained(folder)
    return fast


def model(template_name: str, folder: Path) -> Path:
    """Return the folder of a causal language model with the template of that name, written on first use."""
    path = folder / f"tiny-{template_name}"
    if path.exists():
        return path
    return make_vision_model(template_name, path) if template_name in IMAGE_TOKENS else make_model(template_name, path)


def make_model(template_name: str, folder: Path) -> Path:
    """Write a causal language model with a tokenizer and the template of that name, and return its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(ChatTemplate.load(template_name), folder)
    torch.manual_seed(0)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, **SIZE, **ids)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


IMAGE_TOKENS = {"qwen2.5-vl": "<|image_pad|>"}
"""For the template of a vision model the token that stands for an image."""


def make_vision_model(template_name: str, folder: Path) -> Path:
    """Write a model of LLaVA's kind, with a processor that puts 4 tokens for each image, and return its folder."""
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaProcessor
    from transformers import LlavaForConditionalGeneration as Model

    template, image = ChatTemplate.load(template_name), IMAGE_TOKENS[template_name]
    tokenizer = make_tokenizer(template, folder)
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}), tokenizer, patch_size=4,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token=image,
        chat_template=template.text,
    ).save_pretrained(folder)  # fmt: skip
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    vision = CLIPVisionConfig(image_size=8, patch_size=4, **{**SIZE, "num_hidden_layers": 2})
    text = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, **SIZE, **ids)
    torch.manual_seed(0)
    number = tokenizer.convert_tokens_to_ids(image)
    Model(LlavaConfig(vision_config=vision, text_config=text, image_token_id=number)).save_pretrained(folder)
    return folder


def draw(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write the images that rows name, each of the colour that is its name."""
    from PIL import Image

    for name in {name for row in rows for name in row.get("images", ())}:
        Image.new("RGB", (12, 10), name.removesuffix(".png")).save(folder / name)


def write_rows(rows: list[dict[str, Any]], path: Path) -> Path:
    """Write rows as JSON Lines and return the path."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path
