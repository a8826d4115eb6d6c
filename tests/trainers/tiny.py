"""A tokenizer of bytes and special tokens, and random models of a few thousand weights: nothing is downloaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from chatfmt import ChatTemplate

SPECIAL = re.compile(r"<\|[a-z_]+\|>")
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
        ids = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=ids)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)
    fast.chat_template = template.text
    fast.save_pretrained(folder)
    return fast


def model(template_name: str, folder: Path) -> Path:
    """Return the folder of a causal language model with the template of that name, written on first use."""
    path = folder / f"tiny-{template_name}"
    return path if path.exists() else make_model(template_name, path)


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


def write_rows(rows: list[dict[str, Any]], path: Path) -> Path:
    """Write rows as JSON Lines and return the path."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path
