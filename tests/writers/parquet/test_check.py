"""Every damaged byte of a page is found when a Parquet file is read back."""

from __future__ import annotations

from pathlib import Path

from chatfmt.writers import ShardWriter
from chatfmt.writers.parquet import check, footer
from chatfmt.writers.parquet.thrift import ThriftReader

from ..samples import SCHEMA, batch


def page_bytes(data: memoryview, start: int, end: int) -> set[int]:
    """Return the offsets of a file that lie in a page and not in its header."""
    inside: set[int] = set()
    while start < end:
        reader = ThriftReader(data, start)
        size = reader.struct()[check.PAGE_SIZE][1]
        inside |= set(range(reader.offset, reader.offset + size))
        start = reader.offset + size
    return inside


def test_every_damaged_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with ShardWriter(path, "parquet", SCHEMA) as writer:
        for start in range(0, 4000, 500):
            writer.write(batch(start, 500))
    data = path.read_bytes()
    with footer.mapped(path) as view:
        inside = page_bytes(view, 4, footer.read_footer(view)[1])
    assert check.find_damage(path, 4000) == ""
    assert check.find_damage(path, 3999) == "it has 4000 rows, not 3999"
    assert len(inside) > 3000
    for place in sorted(inside)[:: len(inside) // 300]:
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        assert check.find_damage(path, 4000), place
    for size in range(0, len(data), len(data) // 50):
        path.write_bytes(data[:size])
        assert check.find_damage(path, 4000), size
