"""The description of a trainer, and the data that the text of a loader is made from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from ..schema import MEDIA, IgnoredWeights


class Output(Struct, frozen=True, kw_only=True):
    """The files of a finished conversion, as its manifest describes them."""

    path: str
    """The folder, as the user wrote it."""
    view: str
    format: str
    """`jsonl` or `parquet`."""
    splits: Mapping[str, str]
    """The pattern of the files of each split, below the folder: `data/train-*.parquet`."""
    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The files of each split, below the folder."""
    columns: tuple[str, ...] = ()
    """The columns of the rows."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The recipe that wrote the files, as plain data."""
    template: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's `template`; empty if no template rendered the rows."""
    model: str = "MODEL"
    """The model to train: a folder or a Hub id."""
    stops: tuple[str, ...] | None = None
    """The tokens beside EOS with which the model's template ends an answer or a call; None if that is not known."""
    max_steps: int | None = None
    weighted: frozenset[IgnoredWeights] = frozenset()
    """The kinds of weights that an answer in `messages` has: those that a trainer may ignore, and train in full."""
    longest: int | None = None
    """The bytes of text in the longest row; None if it is not known."""

    @property
    def folder(self) -> str:
        """The folder without a slash at its end."""
        return self.path.rstrip("/")

    @property
    def model_name(self) -> str:
        """The last part of the path or id of the model, for the name of a folder."""
        return self.model.rstrip("/").split("/")[-1]

    @property
    def max_length(self) -> int:
        """A power of 2, which no row has more tokens than: a token is at least a byte, the template adds a few."""
        known = self.recipe.get("max_tokens") or (SOME_LENGTH if self.longest is None else self.longest + TEMPLATE)
        return max(1024, 1 << (int(known) - 1).bit_length())

    @property
    def weights(self) -> str:
        """The key of turns under which the conversion wrote whether answers are trained; empty if it changed none."""
        return str((self.recipe.get("transforms") or {}).get("weights") or "")

    @property
    def length_note(self) -> str:
        """A sentence on `max_length`, for trainers that leave out or cut longer rows."""
        media = [name for name in MEDIA if name in self.columns]
        if media:
            return f"No text is longer than {self.max_length} tokens, to which {listed(media)} add theirs."
        if self.longest is None and not self.recipe.get("max_tokens"):
            cut = f"Rows of over {self.max_length} tokens would be cut or left out"
            return f"{cut}: `chatfmt loader` sets a limit above all."
        return f"No row is cut: none has more than {self.max_length} tokens."

    @property
    def test_split(self) -> str | None:
        """The name of the split to evaluate on; None without one."""
        return next((name for name in ("validation", "test", "eval") if name in self.splits), None)

    @property
    def train_split(self) -> str:
        """The name of the split to train on: `train`, or the only one."""
        return "train" if "train" in self.splits else next(iter(self.splits), "train")

    @property
    def is_text(self) -> bool:
        """Whether the rows are text that a template rendered, and that the trainer is to tokenize."""
        return bool(self.template) and self.view not in UNRENDERED

    @property
    def bos(self) -> str:
        """The BOS token that each text begins with and that tokenizers may add again; empty if there is none."""
        return "" if self.template.get("add_special_tokens") else str(self.template.get("bos", ""))

    @property
    def stripped_bos(self) -> str:
        """The BOS token that was left out of each text; empty if there is none."""
        return str(self.template.get("bos", "")) if self.template.get("add_special_tokens") else ""

    @property
    def ends_with(self) -> str:
        """The text after the last answer in each text."""
        return str(self.template.get("ends_with", ""))

    def files(self, split: str) -> str:
        """Return the path of the files of a split, with a `*` for their numbers."""
        return f"{self.folder}/{self.splits[split]}"

    def paths(self, split: str) -> list[str]:
        """Return the path of each file of a split."""
        return [f"{self.folder}/{name}" for name in self.shards[split]]


UNRENDERED = (
    "messages", "tokens", "preference-messages", "rejected-response", "unpaired-messages", "openai-preference",
    "alpaca", "sharegpt", "openai", "ranked-completions", "rlvr", "rlvr-prompt", "rlvr-text",
)  # fmt: skip
"""The views that are not text, with or without a template."""


SOME_LENGTH = 32768
"""A number of tokens that few rows have, for outputs whose longest row is not known."""
TEMPLATE = 512
"""Tokens that a template may add to the text of a row."""


def listed(names: Iterable[str]) -> str:
    """Return alternatives in words, as in `a, b or c`; `nothing` if there are none."""
    *most, last = [*names] or ["nothing"]
    return f"{', '.join(most)} or {last}" if most else last


def quoted(text: str) -> str:
    """Return the text as a literal of Python and YAML."""
    return json.dumps(text, ensure_ascii=False)


def as_yaml(config: Mapping[str, Any]) -> str:
    """Return a configuration as YAML, its keys in order."""
    import yaml

    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120))


def as_command(words: Sequence[str], options: Mapping[str, Sequence[str]]) -> str:
    """Return a command for a shell, one option per line, each with its values."""
    lines = [shlex.join(words), *(shlex.join([name, *values]) for name, values in options.items())]
    return " \\\n  ".join(lines) + "\n"


def unread_column(output: Output, *names: str, remedy: str = "") -> str:
    """Return why rows do not fit a trainer that does not read these columns; empty if they have none of them."""
    found = [name for name in names if name in output.columns]
    return f"it has the column `{found[0]}`, which the trainer does not read{remedy}" if found else ""


WHOLE = dict.fromkeys(
    ("prompt-completion", "instruction", "unpaired-preference", "preference", "preference-conversations"),
    ("row.completion",),
)
"""What `refuses` has for trainers that train on all of a completion or of each side of a pair."""
TEXT_INSTEAD = ": give the template with -t, to write text"


def media_part_problem(output: Output) -> str:
    """Return why rows do not fit a trainer that reads placeholders and no parts of media; empty if there are none."""
    found = [name for name in MEDIA if name in output.columns and not output.recipe.get("media_tags")]
    if not found:
        return ""
    return f"its {found[0]} are content parts, and the trainer reads placeholders in the text (--media-tags)"


def tokenized_text_problem(output: Output) -> str:
    """Return why a tokenizer that adds BOS or a trainer that appends EOS would double a token; empty if none would.

    With `--for`, both were chosen by the trainer or on purpose.
    """
    if output.recipe.get("trainer") is not None:
        return ""
    if output.is_text and output.bos:
        return f"its text begins with `{output.bos}`, which the trainer's tokenizer adds again"
    is_prompt = output.view in ("prompt", "stepwise")
    if output.is_text and not is_prompt and output.ends_with != output.ends_with.rstrip():
        blank = "a line break" if output.ends_with.endswith("\n") else "white space"
        return f"its text ends with {blank} after the stop token, so that the trainer appends another"
    return ""


class Trainer(Struct, frozen=True, kw_only=True):
    """One entry of TRAINERS.

    `views` and `rendered` have the view for each type of data (`Detection.type`): `rendered` where the user named a
    template. A type of data that is missing in both cannot be used with this trainer, and one that is missing in
    `views` needs a template.
    """

    summary: str
    source: str
    """The code that was read to write this entry: package, version, files."""
    views: Mapping[str, str]
    loader: Callable[[Output], str]
    """Returns what loads an Output: a script, a configuration or a command line, ending with a line feed."""
    problem: Callable[[Output], str] = lambda output: ""
    """Returns why files of a view that it reads do not fit all the same; empty if they fit."""
    takes: tuple[str, ...] = ()
    """The columns that it trains on if rows have them, beside those of the view or instead of them."""
    formats: tuple[str, ...] = ("jsonl", "parquet")
    """The formats that it reads."""
    media: tuple[str, ...] = ()
    """The columns of media that it trains on."""
    unread_calls: Mapping[str, str] = field(default_factory=dict)
    """The views of whose turns it reads no calls and results, with what to type for rows that have some."""
    refuses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each view the codes of checks whose rows it would change or leave out."""
    names_stops: tuple[str, ...] = ()
    """The views in which it trains no token after an answer but EOS and those that its loader names."""
    by_turn: bool = False
    """Whether it renders `messages` turn by turn, and trusts that each text begins with the one before."""
    mask: str = ""
    """The arguments of `chatfmt convert` whose output trains what `--mask` marks; empty if there are none."""
    rendered: Mapping[str, str] = field(default_factory=dict)
    renders: tuple[str, ...] = ()
    """Views whose conversations it renders itself although it reads text, so that a template is an error."""
    also: tuple[str, ...] = ()
    """Further views that it reads, if `--to` names them."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Other keys of a recipe that `--for` sets, with their values."""
    messages: Mapping[str, Any] = field(default_factory=dict)
    """Keys that it sets where no template renders the conversations, such as the form of call arguments."""
    text: Mapping[str, Any] = field(default_factory=dict)
    """Keys that it sets where a template renders them to text for the trainer to tokenize, such as `bos`."""

    @property
    def reads_text(self) -> bool:
        """Whether it tokenizes text that a template rendered."""
        return bool(self.rendered or self.text)

    @property
    def splits_turns(self) -> bool:
        """Whether its conversations are a row for each answer, and it trains on the last of a row alone."""
        return "split_turns" in self.messages.get("transforms", ())

    @property
    def readable(self) -> tuple[str, ...]:
        """The views that the trainer reads, the usual ones first."""
        return tuple(dict.fromkeys((*self.views.values(), *self.rendered.values(), *self.also)))
