"""Names that datasets give to the columns of each part, in lower case; the first one present wins.

Every dialect looks up its columns here, so a name that is added is known to all of them.
"""

from __future__ import annotations

from ...schema import MEDIA

MESSAGES = (
    "messages", "conversation", "conversations", "messages_json", "conversations_json", "conversation_json",
    "chat_messages",
)  # fmt: skip
"""A whole conversation."""
EVENTS = ("steps", "trajectory", "events", "turns", "contents", "dialog", "dialogue")
"""A whole conversation too, in forms of their own."""
HISTORY = (
    "history", "chat_history", "conversation_history", "dialogue_history", "dialog_history", "message_history",
    "previous_messages", "past_messages",
)  # fmt: skip
"""The turns before the question."""
SYSTEM = (
    "system", "system_prompt", "system_message", "system_instruction", "system_instructions", "sys_prompt",
    "developer", "developer_prompt", "developer_message", "developer_instructions",
)  # fmt: skip
BESIDE_TURNS = ("instruction", "instructions")
"""The system text beside a list of turns that does not contain it."""
TOOLS = (
    "tools", "tools_json", "functions", "function_description", "available_tools", "available_functions",
    "tool_schema", "tool_schemas", "tools_schema", "tool_specs", "tool_definitions", "function_definitions",
    "function_schemas",
)  # fmt: skip
TEMPLATE_KWARGS = ("chat_template_kwargs", "template_kwargs")
DOCUMENTS = ("documents",)
PROMPTS = (
    "instruction", "question", "prompt", "problem", "query", "inputs", "message_1", "user", "human",
)  # fmt: skip
LAST_PROMPTS = ("input", "message")
"""The question if no other column is: an `input` may be its context, and a `message` (Cohere) a remark."""
COMPLETIONS = (
    "output", "response", "completion", "solution", "answer", "generated_solution", "generation", "targets", "target",
    "message_2", "assistant",
)  # fmt: skip
CONTEXTS = ("input", "context", "article")
REASONING = (
    "reasoning_content", "reasoning", "thinking", "cot", "complex_cot", "long_cot", "chain_of_thought", "rationale",
    "thought", "thoughts", "reasoning_trace", "reasoning_text", "thinking_trajectory", "thinking_content",
    "reasoning_process", "think", "scratchpad",
)  # fmt: skip
"""What an assistant thinks before it answers; a column of this name may also be a switch such as `on`."""
LABELS = ("label", "kto_tag", "kto_label", "is_desirable", "desirable", "is_chosen", "thumbs_up")
"""Whether an answer is good."""
ANSWER_LISTS = ("completions", "answers", "responses", "generations", "generation", "candidates", "outputs", "replies",
                "instances")  # fmt: skip
"""Several answers to one prompt."""
SIDES = ("chosen", "rejected", "pos", "neg", "positive", "negative", "positives", "negatives")
"""Better and worse answers to one prompt, also lists of them."""
OBJECT_STEPS = ("steps", "solution_steps")
STEPS = ("completions", *OBJECT_STEPS, "step_texts")
STEP_LABELS = ("labels", "step_labels", "label", "ratings", "step_ratings", "correctness")
"""Whether each step of an answer is right."""
SCORE_LISTS = ("ratings", "rating", "scores", "score", "rewards", "reward", "ranks", "rank")
"""The score of each of several answers; a lower rank is better."""
MEDIA_COLUMNS = {part: (part, kind) for part, kind in MEDIA.items()}
"""Images, videos and audio, as trainers call them: TRL `images` or `image`, ms-swift and LLaMA-Factory the plural."""
MEDIA_LIKE = {
    part: tuple(f"{kind}_{noun}" for noun in ("path", "paths", "file", "files", "url", "urls"))
    for part, kind in MEDIA.items()
}
"""Names that mean media only in a row whose text or content parts refer to some."""

_METADATA = frozenset({
    "id", "source", "category", "type", "language", "lang", "model", "task", "dataset", "subset", "split", "topic",
    "domain", "subject", "url", "date", "path", "timestamp", "created", "meta", "metadata", "uuid", "generator", "name",
    "difficulty", "tag", "tags", "ability", "data_source", "ground_truth", "level", "license", "author", "title",
    "file", "origin", "reference", "idx", "index", "key", "hash", "filename", "version", "subtopic", "subcategory",
    "cluster", "style", "locale", "licence",
})  # fmt: skip


def is_metadata(name: str) -> bool:
    """Return whether a column describes the row (`id`, `source`, `user_id`, …), judged by its name."""
    lower = name.lower().replace("-", "_")
    return lower in _METADATA or lower.endswith(
        ("_id", "_source", "_type", "_model", "_date", "_hash", "_url", "_name")
    )
