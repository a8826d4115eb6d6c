"""The configurations and command lines that `chatfmt loader` prints, word for word."""

from __future__ import annotations

import pytest

from chatfmt.trainers import TRAINERS, Output

SPLITS = {"train": "data/train-*.parquet", "test": "data/test-*.parquet"}
SHARDS = {
    "train": ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"),
    "test": ("data/test-00000-of-00001.parquet",),
}
OUTPUT = {"path": "out/", "format": "parquet", "splits": SPLITS, "shards": SHARDS, "model": "org/m", "max_steps": 1}
TEXTS = {
    ("ms-swift", "rejected-response"): """\
swift rlhf --rlhf_type dpo \\
  --model org/m \\
  --use_hf true \\
  --dataset out \\
  --max_steps 1
""",
    ("open-instruct", "messages"): """\
python open_instruct/finetune.py \\
  --model_name_or_path org/m \\
  --dataset_mixer_list out/data/train-00000-of-00002.parquet 1.0 out/data/train-00001-of-00002.parquet 1.0 \\
  --dataset_mixer_list_splits train \\
  --dataset_transform_fn sft_tulu_tokenize_and_truncate_v1 sft_tulu_filter_v1 \\
  --max_train_steps 1
""",
    ("verl", "prompt"): """\
python -m verl.trainer.main_ppo \\
  actor_rollout_ref.model.path=org/m \\
  'data.train_files=[out/data/train-00000-of-00002.parquet,out/data/train-00001-of-00002.parquet]' \\
  data.prompt_key=prompt \\
  'data.val_files=[out/data/test-00000-of-00001.parquet]' \\
  trainer.total_training_steps=1
""",
    ("openrlhf", "messages"): """\
python -m openrlhf.cli.train_sft \\
  --model.model_name_or_path org/m \\
  --data.dataset out/ \\
  --data.dataset_split train \\
  --data.input_key messages \\
  --data.multiturn \\
  --data.apply_chat_template
""",
    ("torchtune", "preference-conversations"): """\
# Replace `dataset` in a recipe's configuration, then: tune run RECIPE --config FILE max_steps_per_epoch=1
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
defaults: examples/configs/sft.yaml
policy:
  model_name: org/m
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
sequence_len: 2048
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


def test_llama_factory_gets_the_dataset_in_its_configuration() -> None:
    text = TRAINERS["llama-factory"].loader(Output(view="preference-messages", columns=("messages", "tools"), **OUTPUT))
    import yaml

    config = yaml.safe_load(text)
    assert (config["stage"], config["dataset"], config["eval_dataset"]) == ("dpo", "chatfmt", "chatfmt-test")
    assert [entry["split"] for entry in config["dataset_dir"].values()] == ["train", "test"]
    assert config["dataset_dir"]["chatfmt"]["columns"] == {
        "messages": "messages", "chosen": "chosen", "rejected": "rejected", "tools": "tools",
    }  # fmt: skip
