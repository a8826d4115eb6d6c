"""Find the data files of a folder by split, as `datasets` does, but never outside of the folder.

In this order: what `save_to_disk` wrote; the `configs:` of the card (README.md); `data/train-00000-of-00007.*` with any
split name; folders, then files named after a split (`train`, `dev`, `eval`, …); otherwise all files are `train`. Names
that begin with a dot or an underscore are not data.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from mimetypes import guess_type
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from ...errors import InputError, Location, UsageError
from ...plain_yaml import InvalidYaml, read_yaml
from ...whole_files import read_whole
from .sniff import FORMAT_BY_SUFFIX, format_by_name
from .split_slices import unknown

Splits = dict[str, list[Path]]
T = TypeVar("T")

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in names of files and folders that indicate their split."""
MOST_LEVELS = 500
"""Folders inside each other; Python can list some 900."""
_SHARDED = re.compile(r"data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_NO_DATA = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_DOCUMENTS = re.compile(r"(readme|licen[cs]e|notice|changelog|citation|contributing|authors)\b", re.IGNORECASE)


class FoundFiles(Struct, frozen=True):
    """Files by split, with metadata of the card."""

    splits: Splits
    subset: str | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """Data files whose names indicate no split while others' names do; `datasets` skips them, and so does chatfmt."""
    others: tuple[str, ...] = ()
    """Files in formats that a folder is not searched for, such as spreadsheets and archives; no media or documents."""


def find_splits(
    root: Path, *, name: str | None = None, data_files: Sequence[str] = (), data_dir: str | None = None
) -> FoundFiles:
    """Find the files of a folder by split. Raises InputError if there are none, UnknownName for an unknown subset."""
    check_listable(str(root / "*"))
    if data_files:
        return FoundFiles(_splits_by_globs(root, parse_data_files(data_files)), **_about(read_card(root)))
    base = inside(root, root / data_dir) if data_dir else root
    if saved := _saved_to_disk(base):
        return FoundFiles(saved)
    card = read_card(root)
    if (configs := card.get("configs")) and not data_dir:
        config = choose_config(configs, name)
        return FoundFiles(_splits_by_config(root, config), str(config.get("config_name", "default")), **_about(card))
    if name is not None:
        raise UsageError(f"`{root}` has no subset `{name}`, or any other", hint="omit `--name`")
    splits, unread, others = _splits_by_names(base)
    return FoundFiles(splits, unread=unread, others=others, **_about(card))


def parse_data_files(data_files: Sequence[str]) -> dict[str, list[str]]:
    """Parse `--data-files` into globs by split: `SPLIT=GLOB`, or `GLOB` for `train`."""
    globs: dict[str, list[str]] = {}
    for given in data_files:
        found = re.fullmatch(r"(\w+(?:\.\w+)*)=(.+)", given)
        split, pattern = (found[1], found[2]) if found else ("train", given)
        globs.setdefault(split, []).append(pattern)
    return globs


def inside(root: Path, path: Path) -> Path:
    """Return `path` if it is in `root` with all links resolved. Raises InputError (`file.outside`)."""
    allowed = root.resolve()
    if allowed.parent.name == "snapshots" and (allowed.parent.parent / "blobs").is_dir():
        allowed = allowed.parent.parent  # in the Hub cache files are links into `blobs`
    if not Path(os.path.realpath(path)).is_relative_to(allowed):  # `resolve` fails for a link to itself
        raise InputError(f"`{path}` leads outside of `{root}`", code="file.outside", hint="use that path as SOURCE")
    return path


def check_listable(pattern: str) -> None:
    """Raise InputError for a folder that a glob looks into and that cannot be listed: `glob` leaves it out."""
    for folder in filter(os.path.isdir, glob.glob(os.path.dirname(pattern), recursive=True)):  # noqa: PTH120, PTH207
        try:
            os.scandir(folder).close()
        except OSError as error:
            _refuse_folder(error)


@contextmanager
def globbing(pattern: str) -> Iterator[None]:
    """Refuse in the block what `check_listable` refuses, and folders that are too deep for Python to list."""
    try:
        check_listable(pattern)
        yield
    except RecursionError:
        raise _too_deep(f"`{pattern}` matches") from None


def _too_deep(subject: str) -> InputError:
    text = f"{subject} folders inside each other, more than {MOST_LEVELS} deep"
    return InputError(text, code="file.unreadable", hint="move the files to a folder further up")


def _refuse_folder(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return
    text = f"cannot list the folder `{error.filename}`: {error.strerror}"
    hint = f"check who may read it with `ls -ld {shlex.quote(error.filename)}`, or name the files to read"
    raise InputError(text, code="file.permission", hint=hint) from None


def _listed(root: Path) -> tuple[dict[Path, str], tuple[str, ...]]:
    """Return the visible data files below `root` with their names, sorted by these, and the names of other files."""
    files: dict[str, bool] = {}
    for folder, folders, names in os.walk(root, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for linked in (Path(folder, name) for name in folders if Path(folder, name).is_symlink()):
            inside(root, linked)
        base = Path(folder).relative_to(root)
        if len(base.parts) > MOST_LEVELS:
            raise _too_deep(f"`{root}` has")
        files |= {(base / name).as_posix(): _is_data(name) for name in names if _may_be_data(name)}
    data = {inside(root, root / name): name for name, is_data in sorted(files.items()) if is_data}
    return data, tuple(name for name, is_data in sorted(files.items()) if not is_data)


def _may_be_data(name: str) -> bool:
    if name[0] in "._" or name in _NO_DATA or _DOCUMENTS.match(name):
        return False
    return _is_data(name) or not (guess_type(name)[0] or "").startswith(("image/", "video/", "audio/"))


def _is_data(name: str) -> bool:
    return format_by_name(name) is not None


def _splits_by_names(root: Path) -> tuple[Splits, tuple[str, ...], tuple[str, ...]]:
    """The visible data files below `root` by split, the names of those without a split, and those of other files."""
    names, others = _listed(root)
    if not names:
        hint = f"data files are named {_SUFFIXES}"
        if others:
            hint += f"; a glob reads others, as in {shlex.quote(str((root / others[0]).with_stem('*')))}"
        raise InputError(f"no data files in `{root}`", code="file.missing", hint=hint)
    splits = splits_by_name(names)
    taken = {path for paths in splits.values() for path in paths}
    return splits, tuple(name for path, name in names.items() if path not in taken), others


def splits_by_name(names: Mapping[T, str]) -> dict[str, list[T]]:
    """Group keys by the split in their names (below the root): train, validation, test, others; else all train."""
    for splits_of in (_sharded, _in_folders, _in_name):
        splits: dict[str, list[T]] = {}
        for key, name in names.items():
            for split in splits_of(name):
                splits.setdefault(split, []).append(key)
        if splits:
            return {split: splits[split] for split in sorted(splits, key=_rank)}
    return {"train": list(names)}


_SUFFIXES = ", ".join(f"`*{suffix}`" for suffix in FORMAT_BY_SUFFIX)


def _rank(split: str) -> tuple[int, str]:
    known = list(KEYWORDS)
    return (known.index(split) if split in known else len(known)), split


def _sharded(name: str) -> list[str]:
    found = _SHARDED.fullmatch(name)
    return [found["split"]] if found else []


def _in_folders(name: str) -> list[str]:
    folders = name.split("/")[:-1]
    return [split for split, words in KEYWORDS.items() if any(_has_word(part, words, "$") for part in folders)]


def _in_name(name: str) -> list[str]:
    return [split for split, words in KEYWORDS.items() if _has_word(name.rsplit("/", 1)[-1], words, "")]


def _has_word(part: str, words: Iterable[str], end: str) -> bool:
    """Whether a name contains one of the words, delimited; with `end` the word may also end the name."""
    behind = r"(?=[-._ 0-9]|$)" if end else r"(?=[-._ 0-9])"
    return re.search(rf"(?:^|[-._ 0-9])(?:{'|'.join(words)}){behind}", part) is not None


def _splits_by_globs(root: Path, globs: Mapping[str, Sequence[str]]) -> Splits:
    return {split: [path for each in patterns for path in _matching(root, each)] for split, patterns in globs.items()}


def _matching(root: Path, pattern: str) -> list[Path]:
    if ".." in Path(pattern).parts or Path(pattern).is_absolute():
        raise InputError(f"`{pattern}` leads outside of `{root}`", code="file.outside", hint="use that path as SOURCE")
    try:
        with globbing(str(root / pattern)):
            paths = (
                [root / pattern]
                if (root / pattern).is_file()
                else [path for path in sorted(root.glob(pattern)) if path.is_file() and path.name[0] not in "._"]
            )
    except (ValueError, IndexError, NotImplementedError, OSError):  # no pattern, or one that `glob` does not know
        paths = []
    found = [inside(root, path) for path in paths]
    if not found:
        hint = "check `--data-files`, or `configs` at the top of README.md"
        raise InputError(f"no file in `{root}` matches `{pattern}`", code="file.missing", hint=hint)
    return found


def read_card(root: Path) -> dict[str, Any]:
    """The metadata at the top of README.md, empty if there is none. Raises InputError for invalid YAML."""
    card = root / "README.md"
    text = read_whole(inside(root, card)).decode(errors="replace") if card.is_file() else ""
    return card_metadata(text, str(card))


def card_metadata(text: str, shown: str) -> dict[str, Any]:
    """Parse the YAML between the `---` lines at the top of a card."""
    found = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---", text, re.DOTALL)
    if not found:
        return {}
    try:
        data = read_yaml(found[1])
    except InvalidYaml as error:
        raise InputError(
            f"the metadata of the card is not valid YAML{error}", code="file.card", at=Location(shown),
            hint="mend the lines between `---` at its top, or name the files instead of their folder",
        ) from None  # fmt: skip
    return data if isinstance(data, dict) else {}


def _about(card: Mapping[str, Any]) -> dict[str, Any]:
    return {"licence": licence_of(card), "languages": languages_of(card)}


def licence_of(card: Mapping[str, Any]) -> str | None:
    """The licence or licences that the metadata of a card state."""
    return ", ".join(_texts(card.get("license"))) or None


def languages_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """The languages that the metadata of a card state."""
    return tuple(_texts(card.get("language")))


def _texts(given: object) -> list[str]:
    return [str(one) for one in (given if isinstance(given, list) else [given]) if one not in (None, False, "")]


def choose_config(configs: object, name: str | None) -> Mapping[str, Any]:
    """The subset of that name, or the default, or the only one. Raises UnknownName, UsageError."""
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        raise InputError(
            "`configs` in the metadata of the card is not a list of subsets", code="file.card",
            hint="name the files with `--data-files`",
        )  # fmt: skip
    known: dict[str, Mapping[str, Any]] = {str(config.get("config_name", "default")): config for config in configs}
    if name is not None:
        if name not in known:
            raise unknown("subset", name, known)
        return known[name]
    default = [key for key, config in known.items() if config.get("default")] or [
        key for key in known if key == "default"
    ]
    if len(known) == 1 or default:
        return known[default[0]] if default else next(iter(known.values()))
    raise UsageError(
        f"there are several subsets: {', '.join(f'`{key}`' for key in known)}",
        hint=f"choose one, as in `--name {next(iter(known))}`",
    )


def _splits_by_config(root: Path, config: Mapping[str, Any]) -> Splits:
    base = inside(root, root / str(config["data_dir"])) if config.get("data_dir") else root
    given = config.get("data_files")
    if given is None:
        return _splits_by_names(base)[0]
    globs: dict[str, list[str]] = {}
    for entry in given if isinstance(given, list) else [given]:
        split, paths = (
            (entry.get("split", "train"), entry.get("path", [])) if isinstance(entry, dict) else ("train", entry)
        )
        globs.setdefault(str(split), []).extend(map(str, paths if isinstance(paths, list) else [paths]))
    return _splits_by_globs(base, globs)


def _saved_to_disk(root: Path) -> Splits | None:
    """The splits that `save_to_disk` wrote to `root`."""
    if (root / "dataset_dict.json").is_file():
        names = _list_in(root / "dataset_dict.json", "splits")
        return {str(name): _files_of_state(inside(root, root / str(name))) for name in names}
    if (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        return {"train": _files_of_state(root)}
    return None


def _files_of_state(root: Path) -> list[Path]:
    entries = _list_in(root / "state.json", "_data_files")
    files = [inside(root, root / str(entry.get("filename"))) for entry in entries if isinstance(entry, dict)]
    missing = next((path for path in files if not path.is_file()), None)
    if missing:
        at = Location(str(root / "state.json"))
        raise InputError(f"no such file `{missing}`", code="file.missing", at=at, hint=_SAVE_AGAIN)
    return files


def _list_in(path: Path, key: str) -> list[Any]:
    """Read the list at a key of a JSON file."""
    try:
        value = json.loads(read_whole(path))
    except (OSError, ValueError, RecursionError) as error:
        at = Location(str(path))
        raise InputError(f"cannot read: {error}", code="file.damaged", at=at, hint=_SAVE_AGAIN) from None
    found = value.get(key, []) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise InputError(f"it has no list `{key}`", code="file.damaged", at=Location(str(path)), hint=_SAVE_AGAIN)
    return found


_SAVE_AGAIN = "write the folder again with `save_to_disk`, or name its Arrow files"
