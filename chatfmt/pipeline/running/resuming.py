"""A stopped run: what it leaves for `--resume`, and what differs in a run that cannot continue it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ... import writers
from ...errors import ChatfmtError, abridged
from ...manifest import MANIFEST, STATE, Manifest, fingerprint
from ...sources.discovery.hub import cache_folder
from ...stores import Store
from ..planning.fingerprint import RUN_ONLY
from ..planning.plan import Plan
from ..planning.target import Target

COMPARED = ("recipe", "sources", "template", "chatfmt")
SHOWN = 3


def asked_for(manifest: Manifest) -> dict[str, Any]:
    """Return what a run is asked for, to be compared with another."""
    return {key: getattr(manifest, key) for key in COMPARED}


def state_folder(target: Target) -> Path:
    """Return the folder in which a run that writes the target, here, stages its work."""
    return target.path / STATE if target.kind == "folder" else writers.staging_folder(target.path.resolve())


def work_folder(plan: Plan) -> Path:
    """Return the folder in the cache of a run whose output is on a store."""
    return cache_folder() / "stores" / fingerprint({"run": plan.fingerprint, "out": str(plan.target)})


def count_kept(plan: Plan) -> int:
    """Return how many shards a stopped run has finished, for `--resume` to keep; none of a stream."""
    if plan.target.kind == "store":
        return len(writers.finished_on_store(Store(str(plan.target)), plan.fingerprint))
    return writers.count_finished(state_folder(plan.target)) if plan.target.kind in ("folder", "file") else 0


def is_resumable(plan: Plan, error: BaseException) -> bool:
    """Return whether the run that ended with an error has left what `--resume` can use."""
    if plan.target.kind in ("folder", "file"):
        return writers.is_worth_resuming(state_folder(plan.target), error)
    with suppress(ChatfmtError):  # a store that does not answer
        return count_kept(plan) > 0
    return False


def record_asked(state: Path, manifest: Manifest) -> None:
    """Record what a run was asked for, unless an earlier part of the run has."""
    path = state / writers.ASKED
    if not path.exists():
        writers.write_atomic(path, json.dumps(asked_for(manifest)).encode())


def differences(target: Target, manifest: Manifest) -> str:
    """Return what differs from the earlier run, as in `limit was 3 and is 5`; empty if its record is missing."""
    try:
        found = list(_differences(_asked_before(target), asked_for(manifest)))
    except (OSError, ValueError, KeyError, TypeError):  # a damaged record explains nothing
        return ""
    return abridged(found, SHOWN)


def _asked_before(target: Target) -> Mapping[str, Any]:
    """Return what the run that wrote to the target was asked for."""
    if target.kind == "store":
        store = Store(str(target))
        run = json.loads(store.read(writers.RUN_ON_STORE) or b"{}")
        return run.get("asked") or json.loads(store.read(MANIFEST) or b"")  # type: ignore[no-any-return]
    asked = state_folder(target) / writers.ASKED
    path = asked if asked.exists() else target.path / MANIFEST
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted((old["recipe"].keys() | new["recipe"].keys()) - RUN_ONLY - {"source", "template", "tokenizer"}):
        was, now = old["recipe"].get(key), new["recipe"].get(key)
        if was != now:
            yield f"`{key}` was {json.dumps(was, ensure_ascii=False)} and is {json.dumps(now, ensure_ascii=False)}"
    if old["template"].get("sha256") != new["template"].get("sha256"):
        was, now = old["template"].get("name"), new["template"].get("name")
        yield f"the text of the template `{now}` changed" if was == now else f"the template was `{was}` and is `{now}`"
    if _inputs(old) != _inputs(new):
        yield "the input files differ, or have changed"
    if old["chatfmt"] != new["chatfmt"]:
        yield f"chatfmt was {old['chatfmt']} and is {new['chatfmt']}"


def _inputs(asked: Mapping[str, Any]) -> list[Any]:
    return [(Path(file["file"]).name, file.get("xxh3_128")) for file in asked["sources"] if "file" in file]
