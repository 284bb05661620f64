"""One self-contained HTML file: sections, figures and the drawing library.

Text from data is escaped by the template engine, and figures are JSON in which no tag can begin. A
content security policy forbids every connection.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from alphakeel.errors import DataError
from alphakeel.files import write_atomically
from alphakeel.report import method, models, performance, risk
from alphakeel.report.sections import Chart, ReportSection, View
from alphakeel.report.style import swatch
from alphakeel.results import Study

if TYPE_CHECKING:
    from alphakeel.selection.trial_log import TestSetUse

__all__ = ["build_sections", "figures_json", "plotly_script", "render_report", "write_report"]

# In reading order: results, their causes, and their limits.
SECTIONS = (
    performance.summary,
    performance.performance,
    performance.active,
    performance.attribution,
    performance.confirmation,
    performance.wealth,
    risk.risk,
    risk.regimes,
    risk.stress,
    performance.calendar,
    performance.sensitivity,
    performance.forecasts,
    models.factors,
    models.drivers,
    models.portfolio,
    models.limits,
    models.costs,
    models.training,
    method.data,
    method.method,
    method.cautions,
)
_SHARED_FROM = 40  # values from which an array that occurs twice is stored once


def write_report(study: Study, path: str | Path, seen: TestSetUse | None = None) -> Path:
    """Write a study's report as one HTML file that needs no network.

    Parameters
    ----------
    study : Study
    path : str or Path
        The file, ending in ``.html`` or ``.htm``; missing folders are made. An existing file is
        replaced in one step, so that a reader never sees half a report.
    seen : TestSetUse, optional
        How many studies of these data there were, as
        `alphakeel.selection.trial_log.record_run` returns it.

    Returns
    -------
    Path
        Where the report is, as an absolute path.

    Raises
    ------
    DataError
        If the path is a folder, does not end in ``.html`` or cannot be written.

    Examples
    --------
    >>> write_report(study=None, path="/")
    Traceback (most recent call last):
    alphakeel.errors.DataError: cannot write the report to /: it is a folder; name a file in it.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise DataError(f"cannot write the report to {target}: it is a folder; name a file in it.")
    if target.suffix.lower() not in (".html", ".htm"):
        raise DataError(
            f"cannot write the report to {target}: its name must end in .html, so that a browser "
            "opens it."
        )
    page = render_report(study, seen)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name from data may hold half a surrogate pair, which UTF-8 cannot write.
        write_atomically(target, page.encode("utf-8", "xmlcharrefreplace"), durable=False)
    except OSError as error:
        raise DataError(f"cannot write the report to {target}: {error.strerror}.") from error
    return target.resolve()


def render_report(study: Study, seen: TestSetUse | None = None) -> str:
    """Text of the report's page; the same study gives the same text."""
    sections = build_sections(study, seen)
    days = study.dates[study.test]
    return _template().render(
        title=f"alphakeel: {study.name}",
        name=study.name,
        period=f"{days[0]} to {days[-1]}",
        version=study.versions.get("alphakeel", ""),
        sections=sections,
        swatches={name: swatch(name) for name in study.every_ledger()},
        figures=Markup(figures_json(_charts(sections))),  # noqa: S704  (no "<" left in it)
        plotly=Markup(plotly_script()),  # noqa: S704  (a constant of the plotly package)
    )


def build_sections(study: Study, seen: TestSetUse | None = None) -> tuple[ReportSection, ...]:
    """Every section of the report, in reading order."""
    view = View.of(study, seen)
    return tuple(make(view) for make in SECTIONS)


def figures_json(figures: dict[str, go.Figure]) -> str:
    """All figures, by element id, as one JSON text without ``<``, safe inside a script element.

    Long arrays that occur more than once (above all the dates) are stored once, under ``arrays``,
    and referred to by ``{"$": key}``.

    Examples
    --------
    >>> text = figures_json({"a": go.Figure(go.Scatter(x=[1], y=[2], name="</script>"))})
    >>> "<" in text, json.loads(text)["figures"]["a"]["data"][0]["name"]
    (False, '</script>')
    """
    pool: dict[str, list[Any]] = {}
    plain = {key: _intern(figure.to_plotly_json(), pool) for key, figure in figures.items()}
    text = json.dumps({"arrays": pool, "figures": plain}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _intern(value: Any, pool: dict[str, list[Any]]) -> Any:
    """Move long flat lists into the pool, under a key made of their content."""
    if isinstance(value, dict):
        return {key: _intern(item, pool) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        flat = not any(isinstance(item, (list, tuple, dict)) for item in value)
        if flat and len(value) >= _SHARED_FROM:
            text = json.dumps(list(value), allow_nan=False)
            key = hashlib.sha256(text.encode()).hexdigest()[:12]
            pool[key] = list(value)
            return {"$": key}
        return [_intern(item, pool) for item in value]
    return value


def _charts(sections: tuple[ReportSection, ...]) -> dict[str, go.Figure]:
    blocks = [block for section in sections for block in section.blocks]
    return {block.key: block.figure for block in blocks if isinstance(block, Chart)}


def plotly_script() -> str:
    """Plotly's source, with the sequences that would end its script element early made harmless."""
    return get_plotlyjs().replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("alphakeel", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")
