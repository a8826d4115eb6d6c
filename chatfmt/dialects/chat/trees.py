"""Conversations that branch: OpenAssistant message trees, one tree or one message per row.

The option `paths` selects which paths of a tree become conversations: `best` (the reply with the lowest rank at each
step, unranked ones last), `all` (every path from the root to a leaf), or `pairs` (the best and the worst reply at the
deepest step with two ranked ones, as a preference). Deleted messages and those rejected in review are dropped with all
replies below them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import DialectError, located
from ...field_path import value_at
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, json_type, records_of
from ..kit.output import OutputRow, by_row, to_batch
from ..kit.roles import to_role

Node = Mapping[str, Any]
"""A message with its `replies`."""


@by_row
def oasst_trees(record: SourceRow, columns: Columns) -> Sequence[OutputRow]:
    """One tree per row: each message contains its replies.

    In:  `{"message_tree_id": "t", "prompt": {"role": "prompter", "text": "hi", "replies": [
           {"role": "assistant", "text": "hey", "rank": 1, "replies": []},
           {"role": "assistant", "text": "hello", "rank": 0, "replies": []}]}}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    A path may end with an unanswered user turn. Raises DialectError `msg.role`, `msg.type`.
    """
    path = columns.path("tree") or "prompt"
    root = value_at(record, path)
    if not isinstance(root, Mapping):
        raise DialectError(f"column `{path}` is {json_type(root)}, not a message with replies", code="col.type")
    return _conversations(root, columns)


def _conversations(root: Node, columns: Columns) -> list[OutputRow]:
    if not _is_kept(root):
        return []
    mode = columns.option("paths", "best", "best", "all", "pairs")
    if mode == "pairs":
        return list(_pair(_best(root), columns))
    paths = [_best(root)] if mode == "best" else list(_paths(root, ()))
    return [{"messages": _turns(path, columns)} for path in paths]


def _is_kept(node: Node) -> bool:
    return not node.get("deleted") and node.get("review_result") is not False


def _replies(node: Node) -> list[Node]:
    """Return the kept replies, the best first; those without a rank last, in their order."""
    found = [reply for reply in node.get("replies") or [] if _is_kept(reply)]
    return sorted(found, key=lambda reply: (reply.get("rank") is None, reply.get("rank") or 0))


def _best(root: Node) -> list[Node]:
    path = [root]
    while replies := _replies(path[-1]):
        path.append(replies[0])
    return path


def _paths(node: Node, before: tuple[Node, ...]) -> Iterator[tuple[Node, ...]]:
    """Yield each path from the root to a leaf, the best first; iterative, because threads can be deep."""
    stack = [(*before, node)]
    while stack:
        path = stack.pop()
        replies = _replies(path[-1])
        stack += [(*path, reply) for reply in reversed(replies)]
        if not replies:
            yield path


def _pair(path: Sequence[Node], columns: Columns) -> Iterator[OutputRow]:
    for last in range(len(path) - 1, -1, -1):
        ranked = [reply for reply in _replies(path[last]) if reply.get("rank") is not None]
        if len(ranked) > 1:
            prompt, (best, *_, worst) = path[: last + 1], ranked
            yield {
                "prompt": _turns(prompt, columns),
                "chosen": _turns([best], columns),
                "rejected": _turns([worst], columns),
            }
            return


def _turns(path: Sequence[Node], columns: Columns) -> list[dict[str, Any]]:
    for message, node in enumerate(path):
        if not isinstance(node.get("text"), str):
            raise DialectError(f"the message of turn {message} has no text", code="msg.content")
    return [{"role": to_role(str(node.get("role")), columns.roles), "content": node["text"]} for node in path]


def find_oasst_trees_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the part of a row with a message that has replies."""
    path = columns.path("tree") or "prompt"
    root = value_at(record, path)
    fits = isinstance(root, Mapping) and isinstance(root.get("text"), str) and "replies" in root
    return {"tree": path} if fits else None


ROW_PARTS = ("message_id", "parent_id", "text", "role")
_ROW_EXTRA = ("message_tree_id", "rank", "deleted", "review_result")


def oasst_rows(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """One message per row; `parent_id` is the message that it replies to. The trees are built from the rows.

    In:  `{"message_id": "a", "parent_id": null, "role": "prompter", "text": "hi"}`,
         `{"message_id": "b", "parent_id": "a", "role": "assistant", "text": "hello"}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    A conversation has the row number of its root. All messages of a tree must be in one batch; replies to a missing
    message are dropped. Raises DialectError `msg.role`, `msg.content`.
    """
    nodes: dict[str, dict[str, Any]] = {}
    order: dict[str, int] = {}
    for row, record in enumerate(records_of(batch)):
        name = record.get("message_id")
        if isinstance(name, str):
            nodes[name], order[name] = {**record, "replies": []}, row
    for node in nodes.values():
        if isinstance(parent := node.get("parent_id"), str) and parent in nodes:
            nodes[parent]["replies"].append(node)
    found, rows = [], []
    for name in (name for name, node in nodes.items() if node.get("parent_id") is None):
        with located(row=order[name]):
            made = _conversations(nodes[name], columns)
        found += made
        rows += [order[name]] * len(made)
    return to_batch(batch, columns, found, rows)


def find_oasst_rows_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row that is one message of a tree."""
    fits = all(isinstance(record.get(name), str) for name in ("message_id", "text", "role"))
    known = record.get("role") in ("prompter", "assistant") and ("message_tree_id" in record or "parent_id" in record)
    extra = {name: name for name in _ROW_EXTRA if name in record}
    return {**{name: name for name in ROW_PARTS}, **extra} if fits and known else None


DIALECTS = {
    "oasst-trees": Dialect(
        oasst_trees,
        find_oasst_trees_parts,
        "OpenAssistant message trees",
        rank=110,
        parts=frozenset({"tree"}),
        decided_by=frozenset({"rank", "deleted", "review_result"}),
    ),
    "oasst-rows": Dialect(
        oasst_rows,
        find_oasst_rows_parts,
        "OpenAssistant messages, one per row",
        rank=115,
        parts=frozenset({"text"}),
        whole_file=True,
    ),
}
