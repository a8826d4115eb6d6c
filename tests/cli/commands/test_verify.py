"""`chatfmt verify`: files and cards that have changed."""

from __future__ import annotations

import json
from pathlib import Path

from ...conftest import EVERYDAY, run_cli, said


def test_verify_and_resume_say_what_became_of_the_card(tmp_path: Path):
    out = tmp_path / "out"
    resume = ("convert", EVERYDAY, "-o", out, "--resume")
    assert run_cli(*resume, "-q").returncode == 0
    same = f"{out}: 12 rows in 1 shard, all checksums match"
    assert run_cli("verify", out).stdout.decode() == same + "\n"
    with (out / "README.md").open("a") as card:
        card.write("Made by hand.\n")
    edited = "the card `README.md` has been edited since"
    assert run_cli("verify", out).stdout.decode() == f"{same}; {edited}\n"
    assert json.loads(run_cli("verify", out, "--json").stdout) == {"schema": 1, "problems": [], "card": edited}
    assert f"note: {edited}" in said(run_cli(*resume))
    (out / "README.md").unlink()
    assert run_cli("verify", out).stdout.decode() == f"{same}; the card `README.md` is missing\n"


def test_verify_finds_a_changed_byte(tmp_path: Path):
    run_cli("convert", EVERYDAY, "-t", "chatml", "-o", tmp_path / "out")
    assert run_cli("verify", tmp_path / "out").returncode == 0
    shard = next((tmp_path / "out" / "data").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    run = run_cli("verify", tmp_path / "out")
    assert run.returncode == 1 and shard.name in said(run)[0]
