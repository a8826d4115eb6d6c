"""Conversations that branch: OpenAssistant message trees, one tree or one message per row.

The option `paths` selects which paths of a tree become conversations: `best` (the reply with the lowest rank at each
step, unranked ones last), `all` (every path from the root to a leaf), or `pairs` (the best and the worst reply at the
deepest step with two ranked ones, as a preference). Deleted messages and those rejected in review are dropped with all
replies below them. All messages that are in no conversation are counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import DialectError, located
from ...field_path import value_at
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, json_type, records_of
from ..kit.literals import read_literal
from ..kit.output import Dropped, OutputRow, batch_of_rows, by_row
from ..kit.roles import to_role

Node = Mapping[str, Any]
"""A message with its `replies`."""


@by_row
def oasst_trees(record: SourceRow, columns: Columns) -> Sequence[OutputRow | Dropped]:
    """One tree per row: each message contains its replies.

    In:  `{"message_tree_id": "t", "prompt": {"role": "prompter", "text": "hi", "replies": [
           {"role": "assistant", "text": "hey", "rank": 1, "replies": []},
           {"role": "assistant", "text": "hello", "rank": 0, "replies": []}]}}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    A path may end with an unanswered user turn. Raises DialectError `msg.role`, `msg.type`.
    """
    path = columns.path("tree") or "prompt"
    root = read_literal(value_at(record, path))
    if not isinstance(root, Mapping):
        raise DialectError(f"column `{path}` is {json_type(root)}, not a message with replies", code="col.type")
    made, left = _conversations(root, columns)
    return [*made, *(why for _, why in left)]


def _conversations(root: Node, columns: Columns) -> tuple[list[OutputRow], list[tuple[Node, Dropped]]]:
    """Return the conversations in a tree, and the messages that are in none of them, each with the reason."""
    mode = columns.option("paths", "best", "best", "all", "pairs")
    if not _is_kept(root):
        paths: list[tuple[Sequence[Node], ...]] = []
    elif mode == "pairs":
        paths = list(_pair(_best(root)))
    else:
        paths = [(_best(root),)] if mode == "best" else [(path,) for path in _paths(root)]
    names = ("prompt", "chosen", "rejected") if mode == "pairs" else ("messages",)
    made: list[OutputRow] = [
        {name: _turns(turns, columns) for name, turns in zip(names, path, strict=True)} for path in paths
    ]
    return made, list(_left_out(root, {id(node) for path in paths for turns in path for node in turns}))


def _left_out(root: Node, used: Collection[int]) -> Iterator[tuple[Node, Dropped]]:
    stack = [(root, False)]
    while stack:
        node, below_dropped = stack.pop()
        dropped = below_dropped or not _is_kept(node)
        if id(node) not in used:
            yield node, Dropped("reply.deleted" if dropped else "reply.other")
        stack += [(reply, dropped) for reply in node.get("replies") or []]


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


def _paths(root: Node) -> Iterator[tuple[Node, ...]]:
    """Yield each path from the root to a leaf, the best first; iterative, because threads can be deep."""
    stack: list[tuple[Node, ...]] = [(root,)]
    while stack:
        path = stack.pop()
        replies = _replies(path[-1])
        stack += [(*path, reply) for reply in reversed(replies)]
        if not replies:
            yield path


def _pair(path: Sequence[Node]) -> Iterator[tuple[Sequence[Node], ...]]:
    """Yield the prompt, the best and the worst reply at the deepest step with two ranked ones."""
    for last in range(len(path) - 1, -1, -1):
        ranked = [reply for reply in _replies(path[last]) if reply.get("rank") is not None]
        if len(ranked) > 1:
            yield path[: last + 1], ranked[:1], ranked[-1:]
            return


def _turns(path: Sequence[Node], columns: Columns) -> list[dict[str, Any]]:
    for message, node in enumerate(path):
        if not isinstance(node.get("text"), str):
            raise DialectError(f"the message of turn {message} has no text", code="msg.content")
    return [{"role": to_role(node.get("role"), columns.roles), "content": node["text"]} for node in path]


def find_oasst_trees_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the part of a row with a message that has replies."""
    path = columns.path("tree") or "prompt"
    root = read_literal(value_at(record, path))
    fits = isinstance(root, Mapping) and isinstance(root.get("text"), str) and {"role", "replies"} <= root.keys()
    return {"tree": path} if fits else None


ROW_PARTS = ("message_id", "parent_id", "text", "role")
_ROW_EXTRA = ("message_tree_id", "rank", "deleted", "review_result")


def oasst_rows(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """One message per row; `parent_id` is the message that it replies to. The trees are built from the rows.

    In:  `{"message_id": "a", "parent_id": null, "role": "prompter", "text": "hi"}`,
         `{"message_id": "b", "parent_id": "a", "role": "assistant", "text": "hello"}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    A conversation has the row number of its root. All messages of a tree must be in one batch; replies to a missing
    message are dropped. Raises DialectError `msg.role`, `msg.content`, `col.type`, `col.twice`.
    """
    nodes: dict[str, dict[str, Any]] = {}
    for row, record in enumerate(records_of(batch)):
        with located(row=row):
            name = _new_name(record.get("message_id"), nodes)
        nodes[name] = {**record, "replies": [], "row": row}
    for node in nodes.values():
        above = node.get("parent_id")
        if isinstance(above, str) and (parent := nodes.get(above)):
            parent["replies"].append(node)
    made: list[list[OutputRow | Dropped]] = [[Dropped("reply.orphan")] for _ in nodes]
    for root in (node for node in nodes.values() if node.get("parent_id") is None):
        for reached, _ in _left_out(root, ()):
            made[reached["row"]] = []
        with located(row=root["row"]):
            found, left = _conversations(root, columns)
        made[root["row"]] += found
        for unused, why in left:
            made[unused["row"]].append(why)
    return batch_of_rows(batch, columns, made)


def _new_name(name: Any, nodes: Collection[str]) -> str:
    if not isinstance(name, str):
        raise DialectError(f"`message_id` is {json_type(name)}, not text", code="col.type")
    if name in nodes:
        raise DialectError(f"an earlier row has the `message_id` `{name}` too", hint="--on-error skip drops it",
                           code="col.twice")  # fmt: skip
    return name


def find_oasst_rows_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row that is one message of a tree."""
    fits = all(isinstance(record.get(name), str) for name in ("message_id", "text", "role"))
    known = record.get("role") in ("prompter", "assistant") and ("message_tree_id" in record or "parent_id" in record)
    extra = {name: name for name in _ROW_EXTRA if name in record}
    return {**{name: name for name in ROW_PARTS}, **extra} if fits and known else None


DIALECTS = {
    "oasst-trees": Dialect(oasst_trees, find_oasst_trees_parts, "OpenAssistant message trees", rank=110,
                           parts=frozenset({"tree"}), decided_by=frozenset({"rank", "deleted", "review_result"})),
    "oasst-rows": Dialect(oasst_rows, find_oasst_rows_parts, "OpenAssistant messages, one per row", rank=115,
                          parts=frozenset({"text"}), whole_file=True),
}  # fmt: skip
