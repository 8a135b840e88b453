"""Pages of HTML out of Jinja2's templates, each in one file: style, script and data are inside, and nothing is loaded.

Everything that a template shows is escaped, but for the charts' own SVG. The page's policy lets a browser load nothing
and run no script but the one whose digest it names.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.formatting import is_of_numbers
from palaestra.train.plain_json import finite, in_script
from palaestra.train.report.charts import SvgChart

HERE = Path(__file__).parent
GENERATOR = "palaestra"
_MARK = f'<meta name="generator" content="{GENERATOR} '
_HEAD = 2000  # bytes within which the mark stands


class PageError(ValueError):
    """A page cannot be written there; the message says why."""


def render(
    template: Path,
    charts: Iterable[SvgChart],
    data: Mapping[str, Any],
    more_script: str = "",
    more_style: str = "",
    **shown: Any,
) -> str:
    """The page.

    Args:
        template: a file that extends ``base.html`` and shows charts by ``figure.of(marked(chart))``.
        charts: all that it shows, whose numbers the script needs; their names differ.
        data: what the page holds as JSON beside ``charts``; NaN and infinity become null.
        more_script: runs after the page's own script.
        more_style: comes after the page's own style.
        shown: what the template needs, ``title`` among them.
    """
    script = _text("page.js") + more_script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = {chart.ident: chart.hover for chart in charts}
    inside = {
        "generator": generator(),
        "style": Markup(_text("page.css") + more_style),
        "script": Markup(script),
        "script_digest": f"sha256-{digest}",
        "data": Markup(in_script(finite({**data, "charts": found}))),
        "marked": _marked,
    }
    text = _environment(template.parent).get_template(template.name).render(**shown, **inside)
    return text.encode(errors="replace").decode()  # bytes of file names that are no text


def generator() -> str:
    """What a page names as what has made it, by which a later one may take its place."""
    return f"{GENERATOR} {version('palaestra')}"


def write_page(path: Path, page: str) -> None:
    """Put the page at ``path``, whole or not at all.

    Raises:
        PageError: if something else than a page of ours is there.
        OSError: if it cannot be written.
    """
    check_page(path)
    write_whole(path, page)


def check_page(path: Path) -> None:
    """Raise a PageError unless a page may be written to ``path``."""
    if path.is_dir():
        raise PageError(f"{path} is a folder: name a file, like {path / 'report.html'}")
    if path.is_file():
        with path.open("rb") as file:
            begin = file.read(_HEAD)
        if begin and _MARK.encode() not in begin:
            raise PageError(f"{path} is there already and is no page of palaestra: choose another name")


@functools.cache
def _environment(folder: Path) -> Environment:
    folders = [str(path) for path in dict.fromkeys((folder, HERE))]
    found = Environment(loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.globals["column_kinds"] = _column_kinds
    return found


def _column_kinds(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Markup]:
    """The attribute of the cells of each column of a table: words stand to the left."""
    cells = [[str(cell) for cell in row] for row in rows]
    return [Markup("" if is_of_numbers(cells, i) else ' class="word"') for i in range(len(heads))]


def _marked(chart: SvgChart) -> SvgChart:
    """The chart with its picture as what is not to be escaped again."""
    return replace(chart, svg=Markup(chart.svg))  # charts.py escapes every text in it


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
