"""The versions of what can change a byte of an output, to compare this machine with others that run its tasks."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .. import __version__

PACKAGES = ("pyarrow", "jinja2", "orjson", "zstandard", "tokenizers")
"""The packages that read, render or write rows. One that a machine lacks is reported where it is needed."""


@cache
def versions() -> dict[str, str]:
    """Return the versions on this machine, by name; that of chatfmt has a hash of its files, as checkouts share one."""
    from importlib.metadata import PackageNotFoundError, version

    folder, code = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".jinja")):
        code.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    found = {
        "chatfmt": f"{__version__}+{code.hexdigest()[:8]}",
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Difference(NamedTuple):
    """A package of another version elsewhere; the hash of chatfmt's files is left out where its releases differ."""

    name: str
    theirs: str
    mine: str

    @property
    def of_files(self) -> bool:
        """Whether this is one release of chatfmt, and its files differ."""
        return "+" in self.mine


def difference(theirs: Mapping[str, str]) -> Difference | None:
    """Return the first difference from the versions on this machine; None if there is none."""
    for name, mine in versions().items():
        other = theirs.get(name, mine)
        if other != mine:
            releases = [version.partition("+")[0] for version in (other, mine)]
            return Difference(name, *(releases if name == "chatfmt" and releases[0] != releases[1] else (other, mine)))
    return None
