"""`chatfmt report`: one page on a dataset, to read in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import OutputError, UsageError
from ...stores import url_of, without_credentials
from .. import options, terminal
from ..options import Sources
from ..requests import to_recipe
from ..summary import size
from ..workers import reading_in_workers

if TYPE_CHECKING:
    from ...recipe import Recipe


@options.declare(
    options.FIGURES,
    page=options.value("FILE", "The page to write; default: report.html.", "-o", "--out"),
    overwrite=options.RUN["overwrite"],
)
@reading_in_workers
def report(source: Sources, **given: Any) -> None:
    """Write one page that shows a dataset: where columns go, lengths, trained text, problems, and rows to read.

    The page needs no network and no other file. SOURCE may also be a folder that chatfmt wrote.
    """
    name = given.pop("page") or "report.html"
    recipe, run, _ = to_recipe(source, given)
    page = check_page(name, overwrite=run.overwrite)
    write_report(recipe, page, run.workers)


def check_page(name: str, *, overwrite: bool, made: Path | None = None) -> Path:
    """Return the path of a page to write; the folder `made`, and those above it, need not exist yet.

    Raises UsageError if its name is that of other data, or a URL; OutputError if it exists and may not be replaced, or
    its folder does not exist.
    """
    path = Path(name)
    if url := url_of(name):
        raise UsageError(f"a report is a file on this machine, not `{without_credentials(url)}`", hint=path.name)
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"a report is an HTML page, and `{name}` has another suffix", hint=f"{path.stem}.html")
    if not (path.parent.is_dir() or (made and made.is_relative_to(path.parent))):
        raise OutputError(
            f"the folder `{path.parent}` does not exist", hint=f"mkdir -p {path.parent}", code="output.enoent"
        )
    if path.exists() and not overwrite:
        raise OutputError(
            f"`{path}` already exists", hint="replace it with `--overwrite`, or name another page", code="output.exists"
        )
    return path


def write_report(recipe: Recipe, page: Path, workers: int | None) -> None:
    """Read the sources of a recipe and write the report on them."""
    from ...pipeline import Scratch, cores
    from ...pipeline.inspection.figures.gather import gather
    from ...pipeline.inspection.report import charts
    from ...pipeline.inspection.report import page as pages

    charts.check_installed()
    with Scratch() as scratch, terminal.reading() as advance:
        found = gather(recipe, scratch, workers or cores(), picks=True, on_progress=advance)
        text = pages.report_page(recipe, found)
    print_page_size(page, pages.write_page(page, text))


def print_page_size(page: Path, count: int) -> None:
    """Print that a page of this size in bytes was written."""
    terminal.print_err(f"wrote `{page}`, {size(count)}: open it in a browser")
