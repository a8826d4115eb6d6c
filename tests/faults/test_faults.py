"""A short form of `storm.py`: each kind of fault at some of its places. Run the whole before a release."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from chatfmt.writers import AtomicFile, durable, staging

from .scenarios import Outcome, Workshop
from .storm import nothing, write_in_place


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def wrong(outcomes: Iterable[Outcome], at_least: int) -> list[Outcome]:
    found = list(outcomes)
    assert len(found) >= at_least
    return [outcome for outcome in found if outcome.wrong]


def test_killed_anywhere_nothing_is_torn_and_a_resume_gives_the_same_bytes(workshop: Workshop) -> None:
    assert wrong(workshop.kills(step=9), 40) == []


def test_any_call_may_fail(workshop: Workshop) -> None:
    assert wrong(workshop.failures(step=11), 60) == []


def test_power_may_be_lost(workshop: Workshop) -> None:
    assert wrong(workshop.power_losses(30, 1), 30) == []


class TestProtectionsMatter:
    """Without a protection, the same faults do harm."""

    def test_syncing_files(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durable.OutputFile, "sync", nothing)
        assert wrong(workshop.power_losses(30, 2), 30)

    def test_syncing_folders(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durable, "sync_folder", nothing)
        assert wrong(workshop.power_losses(60, 3), 60)

    def test_whole_writes(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durable, "write_atomic", write_in_place)
        assert any(outcome.wrong for outcome in workshop.kills(first=60))

    def test_reading_what_a_receipt_vouches_for(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(AtomicFile, "sync", lambda file: file._file.close())
        with_reading = wrong(workshop.power_losses(60, 4), 60)
        monkeypatch.setattr(staging, "_is_complete", lambda state, shard: True)
        assert len(wrong(workshop.power_losses(60, 4), 60)) > len(with_reading)
