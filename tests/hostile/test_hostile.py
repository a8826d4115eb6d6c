"""Hostile inputs, each with its one right outcome; see `case`.

For each case this checks the outcome, that there is no traceback, that nothing half-written is left in the folder, and
that the output has the rows that a slow reader finds in the input. All run in a child with 1.5 GB of memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from zlib import crc32

import pytest

from ..conftest import read_rows, run_fresh
from . import (
    arrow_cases,
    compression_cases,
    csv_cases,
    fault_cases,
    file_cases,
    json_cases,
    parquet_cases,
    path_cases,
    row_cases,
    template_cases,
    terminal_cases,
    token_cases,
)
from .case import Bad, Case, Damaged, Error, Expected, Kept, Refused, Rows, Told
from .child import MEMORY
from .oracle import exact, rows_of
from .pool import Child, Outcome

TABLES = {
    "json": json_cases.CASES, "csv": csv_cases.CASES, "compression": compression_cases.CASES,
    "parquet": parquet_cases.CASES, "arrow": arrow_cases.CASES, "file": file_cases.CASES, "row": row_cases.CASES,
    "template": template_cases.CASES, "token": token_cases.CASES, "terminal": terminal_cases.CASES,
    "path": path_cases.CASES, "fault": fault_cases.CASES,
}  # fmt: skip
CASES: dict[str, Case] = {f"{table}: {case.name}": case for table, cases in TABLES.items() for case in cases}


ANY_PROCESS = ("json: ", "csv: ", "row: ", "template: ", "token: ", "terminal: ")
"""Tables whose outcome does not depend on the process: no native code reads these files."""
ADDRESS = re.compile("0x[0-9a-f]+")


@pytest.fixture(scope="session")
def child() -> Iterator[Child]:
    one = Child()
    yield one
    one.close()


def test_there_are_enough_and_each_has_a_name_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {table: len(cases) for table, cases in TABLES.items()}
    with capsys.disabled():
        print(f"\nhostile inputs: {sum(counts.values())} ({', '.join(f'{k} {n}' for k, n in counts.items())})")
    assert len(CASES) == sum(counts.values()) >= 400
    assert min(counts.values()) >= 10 and counts["template"] >= 40


def in_one_process(name: str, case: Case) -> tuple[str, ...]:
    """Return the options that convert without worker processes: for nine in ten of these cases."""
    sampled = hashlib.sha256(name.encode()).digest()[0] % 10 == 0
    return (
        () if sampled or not name.startswith(ANY_PROCESS) or case.command[0] != "convert" else ("--executor", "serial")
    )


def test_hostile(name: str, child: Child, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    work = made(case, tmp_path / "work")
    before = listing(work)
    allowed = {"out.jsonl", *case.leaves, *(("out.rejects.jsonl",) if "skip" in case.command else ())}
    how = () if request.config.getoption("--full") else in_one_process(name, case)
    outcome = run(child, case, work, tmp_path, *how)
    no_accident(outcome)
    check(case, outcome, work)
    added = [path for path in listing(work) if path not in before and path.split("/")[0] not in allowed]
    assert not added, f"left behind: {added}"
    kept = {path: kind for path, kind in before.items() if path not in case.leaves}
    assert all(listing(work).get(path) == kind for path, kind in kept.items()), "an input was changed"
    if isinstance(case.expected, Bad) and not (how and name.startswith("template: costs")):  # each takes seconds
        check_skipped(case, child, work, tmp_path, *how)


def made(case: Case, work: Path) -> Path:
    work.mkdir()
    for name, content in case.files.items():
        path = work / os.fsdecode(name.encode("utf-8", "surrogateescape"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
    return work


def listing(work: Path) -> dict[str, Any]:
    """Return mode and size of everything in the folder; links are not followed."""
    found = {}
    for path in sorted(work.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(work))] = (status.st_mode, status.st_size if not path.is_dir() else 0)
    return found


def run(child: Child, case: Case, work: Path, tmp_path: Path, *more: str) -> Outcome:
    stdin = None
    if case.stdin is not None:
        stdin = tmp_path / "stdin"
        stdin.write_bytes(case.stdin)
    return child.run((*case.command, *more), work, stdin=stdin, stdout=case.stdout, limits=case.limits)


def no_accident(outcome: Outcome) -> None:
    accident = outcome.exit == 70 or "Traceback" in outcome.stderr or "MemoryError" in outcome.stderr
    assert not accident, outcome.stderr[-800:]
    assert outcome.memory <= MEMORY
    for character in outcome.stderr:
        assert character == "\n" or character.isprintable() or character == "\t", ascii(outcome.stderr)


def check(case: Case, outcome: Outcome, work: Path) -> None:
    expected = case.expected
    if isinstance(expected, Told):
        assert outcome.exit == expected.exit, outcome.stderr
        for wanted, found in ((expected.stdout, outcome.stdout), (expected.stderr, outcome.stderr)):
            assert all(text in found for text in wanted), found
    elif isinstance(expected, Refused):
        assert outcome.exit in (0, 3, 5) and len(outcome.errors) == (outcome.exit > 0), outcome
        assert (work / "out.jsonl").exists() == (not outcome.exit)
    elif isinstance(expected, Damaged) and outcome.exit:
        assert outcome.exit in (2, 3, 4) and len(outcome.errors) == 1, outcome
    elif isinstance(expected, Damaged) and expected.rows is None:
        assert (work / "out.jsonl").exists()
    elif isinstance(expected, (Error, Bad)):
        wanted_exit = expected.exit if isinstance(expected, Error) else 4
        assert outcome.errors, (outcome.exit, outcome.stdout[:500], outcome.stderr[:500])
        ((_, code, text, message),) = outcome.errors
        assert (outcome.exit, code, message[: len(expected.says)]) == (wanted_exit, expected.code, expected.says)
        assert outcome.stderr.startswith("error: ") and outcome.stderr.count("\n") <= 2
        if isinstance(expected, Bad):
            assert f" row {expected.row}: " in text, text
        assert not (work / "out.jsonl").exists() or "out.jsonl" in case.files
    else:
        assert outcome.exit == 0, outcome.stderr
        assert rows_out(case, outcome, work) == rows_wanted(case)


def rows_out(case: Case, outcome: Outcome, work: Path) -> list[Any]:
    out = work / "out.jsonl"
    text = out.read_bytes() if out.exists() else outcome.stdout.encode()
    assert text.endswith(b"\n") or not text
    return [exact(line) for line in text.split(b"\n")[:-1]]


def rows_wanted(case: Case) -> list[Any]:
    if isinstance(case.expected, (Rows, Damaged)):
        return [exact(json.dumps(row)) for row in case.expected.rows or []]
    assert isinstance(case.expected, Kept)
    content = case.files[case.command[1]] if case.stdin is None else case.stdin
    assert isinstance(content, bytes)
    return rows_of(content)


def check_skipped(case: Case, child: Child, work: Path, tmp_path: Path, *how: str) -> None:
    """Check that `--on-error skip` rejects the bad row and writes every other row unchanged."""
    assert isinstance(case.expected, Bad)
    skip = ("--on-error", "skip", "--max-bad", "99%", "--rejects", "rejects.jsonl")
    outcome = run(child, case, work, tmp_path, *skip, *how)
    no_accident(outcome)
    assert outcome.exit == 0, outcome.stderr
    rejects = read_rows(work / "rejects.jsonl")
    assert [(reject["code"], reject["source"]["row"]) for reject in rejects] == [
        (case.expected.code, case.expected.row)
    ]
    good = b"\n".join(line for number, line in enumerate(kept_lines(case)) if number != case.expected.row)
    assert rows_out(case, outcome, work) == rows_of(good)


def kept_lines(case: Case) -> list[bytes]:
    content = case.files[case.command[1]]
    assert isinstance(content, bytes)
    return content.removesuffix(b"\n").split(b"\n")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try every case with `--full`, else one in five."""
    full = metafunc.config.getoption("--full")
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", [name for name in CASES if full or crc32(name.encode()) % 5 == 0])
    if "sampled" in metafunc.fixturenames:
        metafunc.parametrize("sampled", list(CASES)[:: 111 if full else 333])


def test_the_same_in_a_process_of_its_own(sampled: str, child: Child, tmp_path: Path) -> None:
    case = CASES[sampled]
    if case.stdout != "file" or case.limits:
        pytest.skip("its streams or limits are special")
    there, here = made(case, tmp_path / "work"), made(case, tmp_path / "other")
    wanted = run(child, case, there, tmp_path)
    found = run_fresh(*case.command, stdin=case.stdin, cwd=here)
    assert (found.returncode, found.stdout.decode()) == (wanted.exit, wanted.stdout)
    assert ADDRESS.sub("0x", found.stderr.decode()) == ADDRESS.sub("0x", wanted.stderr)
    assert listing(here) == listing(there)


def test_a_tenth_of_the_cases_for_any_process_runs_in_workers() -> None:
    names = [name for name in CASES if name.startswith(ANY_PROCESS)]
    in_workers = [name for name in names if not in_one_process(name, CASES[name])]
    assert len(names) > 600 and 0.05 < len(in_workers) / len(names) < 0.2


def test_the_tables_cover_every_way_to_end() -> None:
    kinds = Counter(type(case.expected) for case in CASES.values())
    assert set(get_args(Expected)) == set(kinds) and min(kinds.values()) >= 10, kinds
