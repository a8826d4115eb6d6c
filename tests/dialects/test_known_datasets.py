"""Detection and conversion of rows with the columns of public datasets (the texts are our own)."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from chatfmt.errors import NoDialect

from .batches import convert, to_batch, to_native

U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
H, G = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
TALK = {"messages": [U, A]}
PAIR = {"prompt": [U], "chosen": [A], "rejected": [{"role": "assistant", "content": "b"}]}
WHOLE = {"chosen": [U, A], "rejected": [U, {"role": "assistant", "content": "b"}]}
DAY = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
WILD = {"country": "NO", "hashed_ip": "x", "header": {"accept-language": "en"}, "language": "English",
        "redacted": False, "state": None, "timestamp": DAY, "toxic": False, "turn_identifier": 7}  # fmt: skip

DATASETS: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "HuggingFaceTB/smoltalk": ({**TALK, "source": "s"}, "messages", "language-modeling", TALK),
    "HuggingFaceTB/smoltalk2": (
        {**TALK, "source": "s", "chat_template_kwargs": {
            "custom_instructions": None, "enable_thinking": True, "python_tools": [], "xml_tools": None}},
        "messages", "language-modeling", {**TALK, "template_kwargs": {"enable_thinking": True, "python_tools": []}},
    ),
    "HuggingFaceH4/ultrachat_200k": ({"prompt": "q", "prompt_id": "1", **TALK}, "messages", "language-modeling", TALK),
    "HuggingFaceH4/ultrafeedback_binarized": (
        {"prompt": "q", "prompt_id": "1", **WHOLE, **TALK, "score_chosen": 8.0, "score_rejected": 1.0},
        "preference", "preference", WHOLE,
    ),
    "argilla/ultrafeedback-binarized-preferences-cleaned": (
        {"source": "s", "prompt": "q", **WHOLE, "chosen-rating": 5.0, "rejected-rating": 1.0},
        "preference", "preference", WHOLE,
    ),
    "teknium/OpenHermes-2.5": (
        {"conversations": [{**H, "weight": None}, {**G, "weight": None}], "category": "c", "system_prompt": None},
        "sharegpt", "language-modeling", TALK,
    ),
    "Open-Orca/OpenOrca": (
        {"id": "1", "system_prompt": "", "question": "q", "response": "a"},
        "prompt-completion", "language-modeling", TALK,
    ),
    "allenai/WildChat-1M": (
        {"conversation_hash": "h", "conversation": [{**U, **WILD}, {**A, **WILD}], "turn": 1, "timestamp": DAY},
        "messages", "language-modeling",
        {"messages": [{**turn, **{key: value for key, value in WILD.items() if value is not None},
                       "timestamp": DAY.isoformat()} for turn in (U, A)]},
    ),
    "allenai/llama-3.1-tulu-3-8b-preference-mixture": (
        {"id": "1", "source": "s", "prompt": "q", **WHOLE}, "preference", "preference", WHOLE),
    "Intel/orca_dpo_pairs": (
        {"system": "", "question": "q", "chosen": "a", "rejected": "b"}, "preference", "preference", PAIR),
    "argilla/distilabel-math-preference-dpo": (
        {"instruction": "q", "chosen_response": "a", "rejected_response": "b", "chosen_rating": 5.0},
        "preference", "preference", PAIR,
    ),
    "HuggingFaceH4/Multilingual-Thinking": (
        {"reasoning_language": "fr", "developer": "d", "user": "q", "analysis": "t", "final": "a",
         "messages": [{"role": "system", "content": "reasoning language: fr\n\nd", "thinking": None},
                      {**U, "thinking": None}, {**A, "thinking": "t"}]},
        "messages", "language-modeling",
        {"messages": [{"role": "system", "content": "reasoning language: fr\n\nd"}, U, {**A, "thinking": "t"}]},
    ),
    "nvidia/Llama-Nemotron-Post-Training-Dataset": (
        {"input": [U], "output": "a", "category": "c", "reasoning": "off", "system_prompt": ""},
        "answered-turns", "language-modeling", TALK,
    ),
    "AI-MO/NuminaMath-CoT": (
        {"source": "s", "problem": "q", "solution": "a", **TALK}, "messages", "language-modeling", TALK),
    "AI-MO/NuminaMath-1.5": (
        {"problem": "q", "solution": "a", "answer": "7", "problem_type": "p", "synthetic": False},
        "prompt-completion", "language-modeling", TALK,
    ),
    "meta-math/MetaMathQA": (
        {"type": "t", "query": "q", "original_question": "o", "response": "a"},
        "prompt-completion", "language-modeling", TALK,
    ),
    "nvidia/OpenMathInstruct-2": (
        {"problem": "q", "generated_solution": "a", "expected_answer": "7", "problem_source": "s"},
        "prompt-completion", "language-modeling", TALK,
    ),
    "Magpie-Align/Magpie-Pro-300K-Filtered": (
        {"uuid": "1", "instruction": "q", "response": "a", "conversations": [H, G]},
        "sharegpt", "language-modeling", TALK,
    ),
    "open-thoughts/OpenThoughts-114k": (
        {"system": "s", "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]},
        "sharegpt", "language-modeling", {"messages": [{"role": "system", "content": "s"}, U, A]},
    ),
    "open-thoughts/OpenThoughts-114k metadata": (
        {"problem": "q", "deepseek_reasoning": "t", "deepseek_solution": "a", "ground_truth_solution": "g"},
        "reasoning", "language-modeling", {"messages": [U, {**A, "reasoning_content": "t"}]},
    ),
    "camel-ai/math": (
        {"role_1": "x", "topic;": "t", "message_1": "q", "message_2": "a"},
        "prompt-completion", "language-modeling", TALK,
    ),
    "b-mc2/sql-create-context": (
        {"question": "q", "context": "CREATE", "answer": "a"}, "prompt-completion", "language-modeling",
        {"messages": [{"role": "user", "content": "q\nCREATE"}, A]},
    ),
    "YeungNLP/firefly-train-1.1M": (
        {"kind": "k", "input": "q", "target": "a"}, "prompt-completion", "language-modeling", TALK),
    "CohereLabs/aya_dataset": (
        {"inputs": "q", "targets": "a", "language": "en", "user_id": "u"},
        "prompt-completion", "language-modeling", TALK,
    ),
    "nvidia/HelpSteer2": (
        {"prompt": "q", "response": "a", "helpfulness": 4, "verbosity": 2},
        "prompt-completion", "language-modeling", TALK,
    ),
    "stanfordnlp/SHP": (
        {"post_id": "p", "history": "q", "human_ref_A": "b", "human_ref_B": "a", "labels": 0, "score_A": 1},
        "compared", "preference", PAIR,
    ),
    "PKU-Alignment/PKU-SafeRLHF": (
        {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0, "safer_response_id": 1},
        "compared", "preference", PAIR,
    ),
    "lvwerra/stack-exchange-paired": (
        {"qid": 1, "question": "q", "date": "d", "metadata": ["m"], "response_j": "a", "response_k": "b"},
        "compared", "preference", PAIR,
    ),
    "NeMo-RL preference": (
        {"context": [U], "completions": [{"rank": 1, "completion": [{"role": "assistant", "content": "b"}]},
                                         {"rank": 0, "completion": [A]}]},
        "scored", "preference", PAIR,
    ),
    "microsoft/orca-agentinstruct-1M-v1": (
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        "messages", "language-modeling", TALK,
    ),
    "liuhaotian/LLaVA-Instruct-150K": (
        {"id": "1", "image": "a.jpg", "conversations": [H, G]}, "sharegpt", "language-modeling",
        {**TALK, "images": "a.jpg"},
    ),
    "timdettmers/openassistant-guanaco": (
        {"text": "### Human: q### Assistant: a"}, "transcript", "language-modeling", TALK),
    "trl-lib/kto-mix-14k": (
        {"prompt": [U], "completion": [A], "label": False}, "conversational", "unpaired-preference",
        {"prompt": [U], "completion": [A], "label": False},
    ),
    "cais/mmlu": (
        {"question": "q", "subject": "s", "choices": ["x", "y", "z", "w"], "answer": 3},
        "multiple-choice", "language-modeling",
        {"messages": [{"role": "user", "content": "q\n\nA. x\nB. y\nC. z\nD. w"},
                      {"role": "assistant", "content": "D"}]},
    ),
    "axolotl jeopardy": (
        {"category": "c", "question": "q", "answer": "a"}, "prompt-completion", "language-modeling", TALK),
    "axolotl metharme": (
        {"prompt": "q", "generation": "a"}, "prompt-completion", "language-modeling", TALK),
    "axolotl gpteacher": (
        {"instruction": "q", "input": "c", "response": "a"}, "prompt-completion", "language-modeling",
        {"messages": [{"role": "user", "content": "q\nc"}, A]},
    ),
    "axolotl context_qa": (
        {"article": "c", "question": "q", "answer": "a"}, "prompt-completion", "language-modeling",
        {"messages": [{"role": "user", "content": "q\nc"}, A]},
    ),
    "axolotl concisechoice": (
        {"question": "q", "choices": ["x", "y"], "solution": "a"}, "multiple-choice", "language-modeling",
        {"messages": [{"role": "user", "content": "q\n\nA. x\nB. y"}, A]},
    ),
    "KoAlpaca as ShareGPT": (
        {"conversations": [{"from": "input", "value": "s"}, H, G]}, "sharegpt", "language-modeling",
        {"messages": [{"role": "system", "content": "s"}, U, A]},
    ),
    "smolagents traces": (
        {"messages": [{"role": "system", "content": "s"}, A], "original_question": "q", "source": "x"},
        "traces", "language-modeling", {"messages": [{"role": "system", "content": "s"}, U, A]},
    ),
    "smolagents traces with a developer message": (
        {"messages": [{"role": "developer", "content": "s"}, A], "original_question": "q"},
        "traces", "language-modeling", {"messages": [{"role": "developer", "content": "s"}, U, A]},
    ),
    "stanfordnlp/imdb": ({"text": "A film.", "label": 1}, "text", "text", {"text": "A film."}),
}  # fmt: skip


@pytest.mark.parametrize("make", [to_batch, to_native], ids=["json", "native"])
@pytest.mark.parametrize("name", DATASETS)
def test_dataset(name: str, make: Any) -> None:
    row, dialect, type, expected = DATASETS[name]
    if make is to_batch and name == "allenai/WildChat-1M":
        pytest.skip("JSON has no timestamps")
    made, found = convert(make([row, row]))
    assert (found.dialect, found.type) == (dialect, type)
    assert [without_null_keys(row) for row in made] == [expected, expected]


def without_null_keys(row: dict[str, Any]) -> dict[str, Any]:
    return {name: [{key: value for key, value in turn.items() if value is not None} for turn in values]
            if isinstance(values, list) else
            {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values
            for name, values in row.items()}  # fmt: skip


def test_number_of_datasets() -> None:
    assert len(DATASETS) >= 35


def test_a_column_called_tools_that_holds_no_specifications() -> None:
    made, found = convert([{"question": "q", "answer": "a", "tools": "hammer", "documents": "none"}])
    assert made == [TALK]
    assert found.unused == ("tools", "documents")


REFUSED = {
    "nvidia/OpenCodeReasoning": (
        {"id": "1", "input": "q", "output": "a", "solution": "s"},
        "choose with --map completion=output or --map completion=solution",
    ),
    "facebook/natural_reasoning": (
        {"question": "q", "reference_answer": "r", "responses": [{"response_model": "m", "response": "a"}]},
        "map the answer: --map user=question --map assistant=reference_answer",
    ),
    "bigcode/the-stack-smol": (
        {"content": "c = 1", "avg_line_length": 3.0, "repository_name": "r", "path": "p", "size": 3},
        "map a column of turns with --map messages=COLUMN; or plain text: --map text=content",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_dataset_without_a_dialect(name: str) -> None:
    row, hint = REFUSED[name]
    with pytest.raises(NoDialect) as caught:
        convert([row])
    assert caught.value.hint == hint
