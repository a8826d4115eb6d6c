"""The configurations and command lines that `chatfmt loader` prints, word for word."""

from __future__ import annotations

import pytest

from chatfmt.trainers import TRAINERS, Output

from ..conftest import run_cli
from . import cases, tiny

SPLITS = {"train": "data/train-*.parquet", "test": "data/test-*.parquet"}
SHARDS = {
    "train": ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"),
    "test": ("data/test-00000-of-00001.parquet",),
}
OUTPUT = {
    "path": "out/",
    "format": "parquet",
    "splits": SPLITS,
    "shards": SHARDS,
    "model": "org/m",
    "max_steps": 1,
    "longest": 3000,
}
TEXTS = {
    ("ms-swift", "rejected-response"): """\
# No row is cut: none has more than 4096 tokens.
swift rlhf --rlhf_type dpo \\
  --model org/m \\
  --use_hf true \\
  --dataset out \\
  --strict true \\
  --max_length 4096 \\
  --max_steps 1
""",
    ("open-instruct", "messages"): """\
# No row is cut: none has more than 4096 tokens.
python open_instruct/finetune.py \\
  --model_name_or_path org/m \\
  --dataset_mixer_list out/data/train-00000-of-00002.parquet 1.0 out/data/train-00001-of-00002.parquet 1.0 \\
  --dataset_mixer_list_splits train \\
  --dataset_transform_fn sft_tulu_tokenize_and_truncate_v1 sft_tulu_filter_v1 \\
  --max_seq_length 4096 \\
  --max_train_steps 1
""",
    ("verl", "prompt"): """\
# It stops at a prompt of more than `data.max_prompt_length` tokens (512 unless set).
# Rewards are found by `data_source` and `reward_model` of the rows, or set custom_reward_function.path.
python -m verl.trainer.main_ppo \\
  actor_rollout_ref.model.path=org/m \\
  'data.train_files=[out/data/train-00000-of-00002.parquet,out/data/train-00001-of-00002.parquet]' \\
  data.prompt_key=prompt \\
  'data.val_files=[out/data/test-00000-of-00001.parquet]' \\
  trainer.total_training_steps=1
""",
    ("openrlhf", "messages"): """\
# No row is cut: none has more than 4096 tokens.
# It appends a blank and EOS to a row that ends with another token, such as <end_of_turn>.
python -m openrlhf.cli.train_sft \\
  --model.model_name_or_path org/m \\
  --data.dataset out/ \\
  --data.dataset_split train \\
  --data.input_key messages \\
  --data.multiturn \\
  --data.max_samples 128 \\
  --data.max_len 4096 \\
  --data.apply_chat_template
""",
    ("unsloth", "text"): """\
# It trains from the header of each answer to that of the next user turn: with some templates also on system
# texts or results of tools, or on no stop token but the last. Files of --to tokens train on the answers alone.
from unsloth import FastLanguageModel
from unsloth.chat_templates import train_on_responses_only
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

MAX_LENGTH = 4096  # No row is cut: none has more than 4096 tokens.
model, tokenizer = FastLanguageModel.from_pretrained("org/m", max_seq_length=MAX_LENGTH)
model = FastLanguageModel.get_peft_model(model)
dataset = load_dataset("out/")
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    args=SFTConfig(
        output_dir="m-unsloth",
        max_length=MAX_LENGTH,
        max_steps=1,
    ),
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
)
trainer = train_on_responses_only(trainer)
trainer.train()
""",
    ("torchtune", "preference-conversations"): """\
# Replace `dataset` in a recipe's configuration, then: tune run RECIPE --config FILE max_steps_per_epoch=1
# The tokenizer's `max_seq_len` in that configuration cuts longer rows; null cuts none.
dataset:
  _component_: torchtune.datasets.preference_dataset
  train_on_input: false
  source: out/
  split: train
dataset_val:
  _component_: torchtune.datasets.preference_dataset
  train_on_input: false
  source: out/
  split: test
""",
    ("nemo-rl", "messages"): """\
# Save as sft.yaml, then: uv run examples/run_sft.py --config sft.yaml
# No row is cut: none has more than 4096 tokens.
defaults: examples/configs/sft.yaml
policy:
  model_name: org/m
  max_total_sequence_length: 4096
data:
  add_generation_prompt: true
  train:
  - data_path: out/data/train-00000-of-00002.parquet
  - data_path: out/data/train-00001-of-00002.parquet
  validation:
  - data_path: out/data/test-00000-of-00001.parquet
  default:
    dataset_name: openai_format
    chat_key: messages
    tool_key: tools
    use_preserving_dataset: true
    processor: sft_processor
    prompt_file: null
    system_prompt_file: null
sft:
  max_num_steps: 1
""",
    ("axolotl", "segments"): """\
# Save as axolotl.yaml, then: axolotl train axolotl.yaml
# It stops at a row of more than `sequence_len` tokens.
base_model: org/m
datasets:
- path: out/
  split: train
  type: input_output
test_datasets:
- path: out/
  split: test
  type: input_output
chat_template: tokenizer_default
train_on_inputs: false
sequence_len: 4096
excess_length_strategy: raise
micro_batch_size: 1
gradient_accumulation_steps: 1
learning_rate: 2.0e-05
max_steps: 1
output_dir: m-axolotl
""",
}
"""For a trainer and a view what it prints."""


@pytest.mark.parametrize(("trainer", "view"), TEXTS)
def test_it_prints_what_loads_every_shard_and_split(trainer: str, view: str) -> None:
    assert TRAINERS[trainer].loader(Output(view=view, **OUTPUT)) == TEXTS[trainer, view]


@pytest.mark.parametrize(
    ("template", "tokens"),
    [
        ("qwen3", []),
        ("gemma-3", ["<end_of_turn>"]),
        ("command-a", ["<|END_RESPONSE|>"]),
        ("gpt-oss", ["<|end|>", "<|call|>"]),
    ],
)
def test_axolotl_trains_the_tokens_that_end_a_turn_in_the_template(template, tokens, tmp_path) -> None:
    import yaml

    source = tiny.write_rows(cases.CHAT, tmp_path / "rows.jsonl")
    assert run_cli("convert", source, "--for", "axolotl", "-o", tmp_path / "out", "-q").returncode == 0
    known, unknown = (run_cli("loader", tmp_path / "out", *model).stdout for model in (("--model", template), ()))
    assert yaml.safe_load(known).get("eot_tokens", []) == tokens
    assert "eot_tokens" not in yaml.safe_load(unknown)
    finds = "`eot_tokens`, which `chatfmt loader --model MODEL` reads from the template."
    notes = [text.decode().splitlines()[2] for text in (known, unknown)]
    assert notes == ["base_model: " + template, f"# It trains no stop token but EOS and {finds}"]


BY_TURN = "it renders turn by turn, and the template prints an answer otherwise once turns follow or after its prompt"


@pytest.mark.parametrize(
    ("trainer", "rows", "template", "problem", "remedy"),
    [
        ("openrlhf", cases.TURNS, "qwen3", BY_TURN, "convert with -t qwen3"),
        ("openrlhf", cases.CHAT, "qwen3", "", ""),
        ("openrlhf", cases.CHAT, "qwq", BY_TURN, "convert with -t qwq"),
        ("openrlhf", cases.PAIRS, "qwq", BY_TURN, "convert with -t qwq"),
        ("nemo-rl", cases.TURNS, "qwen3", BY_TURN, "--for trl-sft reads them"),
        ("open-instruct", cases.TURNS, "qwen3", BY_TURN, "--for trl-sft reads them"),
        ("nemo-rl", cases.TURNS, "llama-3", "", ""),
        *(
            ("axolotl", cases.TOOLS, template, "it would train on results of tools, which the template prints "
             "otherwise where there was no call", f"convert with -t {template}")
            for template in ("deepseek-v3.2", "command-a", "solar-open")
        ),
        ("axolotl", cases.TOOLS, "qwen3", "", ""),
        ("axolotl", cases.TURNS, "deepseek-v3.2", "", ""),
        ("axolotl", cases.TURNS, "glm-4", "the template `glm-4` prints no stop token after the last answer, so a model "
         "trained on its answers never ends one", "convert with -t glm-4"),
    ],
)  # fmt: skip
def test_a_template_of_which_the_trainer_would_train_other_tokens(trainer, rows, template, problem, remedy, tmp_path):
    source, out = tiny.write_rows(rows, tmp_path / "rows.jsonl"), tmp_path / "out"
    assert run_cli("convert", source, "--for", trainer, "-o", out, "-q").returncode == 0
    found = run_cli("loader", out, "--model", template)
    said = f"error: `{out}` does not fit {trainer} with the template of `{template}`: {problem}\nhint: {remedy}\n"
    assert (found.returncode, found.stderr.decode()) == ((2, said) if problem else (0, ""))


def test_llama_factory_gets_the_dataset_in_its_configuration() -> None:
    text = TRAINERS["llama-factory"].loader(Output(view="preference-messages", columns=("messages", "tools"), **OUTPUT))
    import yaml

    config = yaml.safe_load(text)
    assert (config["stage"], config["dataset"], config["eval_dataset"]) == ("dpo", "chatfmt", "chatfmt-test")
    assert [entry["split"] for entry in config["dataset_dir"].values()] == ["train", "test"]
    assert config["dataset_dir"]["chatfmt"]["columns"] == {
        "messages": "messages", "chosen": "chosen", "rejected": "rejected", "tools": "tools",
    }  # fmt: skip


def test_the_limit_of_tokens_is_a_power_of_2_above_the_longest_row() -> None:
    found = {longest: Output(view="text", **{**OUTPUT, "longest": longest}) for longest in (None, 0, 512, 513, 40000)}
    assert [output.max_length for output in found.values()] == [32768, 1024, 1024, 2048, 65536]
    unknown = "Rows of over 32768 tokens would be cut or left out: `chatfmt loader` sets a limit above all."
    assert found[None].length_note == unknown
    assert found[513].length_note == "No row is cut: none has more than 2048 tokens."
    limited = Output(view="text", **{**OUTPUT, "recipe": {"max_tokens": 4096}})
    assert (limited.max_length, limited.length_note) == (4096, "No row is cut: none has more than 4096 tokens.")
    pictures = Output(view="messages", columns=("messages", "images"), **OUTPUT)
    assert pictures.length_note == "No text is longer than 4096 tokens, to which images add theirs."
