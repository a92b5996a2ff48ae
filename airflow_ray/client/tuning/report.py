"""A page with charts of a hyper-parameter search, in one file that needs no network."""

from __future__ import annotations

import html
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_ray.client.checkpoints import CheckpointLocation
from airflow_ray.cluster.checkpoints import Storage
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.exceptions import RayConfigurationError, RayTuneStorageError

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_CURVES = 200
COLUMNS = 3
ROW_PIXELS = 320
# An axis that spans more than this is logarithmic.
LOG_RATIO = 50.0


_BEST, _OTHER = "#c0392b", "#2e86c1"


_STYLE = "body{font-family:sans-serif;margin:2rem auto;max-width:1200px;color:#222}h2{margin-top:2.5rem}"


def write_report(
    path: str,
    aws_conn_id: str | None,
    *,
    title: str,
    trials: Any,
    history: dict[str, dict[str, list[Any]]],
    metric: str,
    mode: str,
    best_trial: str,
) -> str:
    """Write the page and return where it is.

    :param path: ``s3://bucket/name.html``, ``gs://…``, ``file:///…`` or a path on this machine.
    :param aws_conn_id: AWS connection with the credentials for S3.
    :param trials: DataFrame with a row for each trial: ``trial_id``, ``trial_error``, the metric, a column
        ``config/name`` for each parameter.
    :param history: for each trial its ``iteration`` and ``value`` lists.
    :param best_trial: id of the trial to mark.
    :raises RayTuneStorageError: the page cannot be written there.
    """
    page = _page(title, trials, history, metric, mode, best_trial).encode()
    location, name = report_location(path, aws_conn_id)
    try:
        Storage(**location.storage()).write(name, page)
    except CheckpointFailure as failure:
        raise RayTuneStorageError(f"The report cannot be written at {location.path}/{name}: {failure}") from failure
    return f"{location.path}/{name}"


def report_location(path: str, aws_conn_id: str | None) -> tuple[CheckpointLocation, str]:
    """Return folder and name of a report, when this machine can make one.

    :raises RayConfigurationError: plotly is not installed, or the path is malformed.
    """
    if importlib.util.find_spec("plotly") is None:
        raise RayConfigurationError("report_path needs plotly on the Airflow worker: pip install 'airflow-ray[tune]'")
    folder, _, name = (path if "://" in path else f"file://{Path(path).absolute()}").rpartition("/")
    return CheckpointLocation(folder, aws_conn_id if urlsplit(folder).scheme == "s3" else None), name


def _page(
    title: str, trials: Any, history: dict[str, dict[str, list[Any]]], metric: str, mode: str, best_trial: str
) -> str:
    parameters = [name for name in trials.filter(like="config/").columns if trials[name].astype(str).nunique() > 1]
    known = trials[trials[metric].notna()]
    charts = [
        ("Parameters and metric together", _parallel(known, parameters, metric, mode)),
        ("Each parameter against the metric", _scatter(known, parameters, metric, best_trial)),
        ("Learning curves", _curves(history, metric, best_trial)),
    ]
    best = known[known["trial_id"] == best_trial].iloc[0]
    settings = ", ".join(f"{_label(name)}={_short(best[name])}" for name in parameters)
    failed = int(trials["trial_error"].notna().sum())
    summary = f"{len(trials)} trials, {failed} of which failed. Best {metric}: {best[metric]:.6g} by trial {best_trial}"
    lines = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(summary)} with {html.escape(settings)}.</p>",
    ]
    script: bool | str = True
    for heading, figure in charts:
        if figure is not None:
            # Plotly's own script comes with the first one.
            chart = figure.to_html(full_html=False, include_plotlyjs=script, config={"displaylogo": False})
            lines += [f"<h2>{heading}</h2>", chart]
            script = False
    return "\n".join([*lines, "</html>"])


def _plotly() -> tuple[Any, Any]:
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    return graph_objects, make_subplots


def _parallel(trials: Any, parameters: Sequence[str], metric: str, mode: str) -> Any:
    graph_objects, _ = _plotly()
    dimensions = [_dimension(trials[name], _label(name)) for name in [*parameters, metric]]
    line = {"color": trials[metric], "colorscale": "Viridis", "showscale": True, "reversescale": mode == "min"}
    return graph_objects.Figure(graph_objects.Parcoords(line=line, dimensions=dimensions))


def _dimension(column: Any, label: str) -> dict[str, Any]:
    if not _is_numeric(column):
        names = sorted(column.astype(str).unique())
        values = column.astype(str).map(names.index)
        return {"label": label, "values": values, "tickvals": list(range(len(names))), "ticktext": names}
    if not _is_logarithmic(column):
        return {"label": label, "values": column}
    lowest, highest = math.floor(math.log10(column.min())), math.ceil(math.log10(column.max()))
    exponents = range(lowest, highest + 1)
    return {
        "label": label,
        "values": column.map(math.log10),
        "range": [lowest, highest],
        "tickvals": list(exponents),
        "ticktext": [f"{10.0**exponent:g}" for exponent in exponents],
    }


def _scatter(trials: Any, parameters: Sequence[str], metric: str, best_trial: str) -> Any:
    graph_objects, make_subplots = _plotly()
    if not parameters:
        return None
    columns = min(COLUMNS, len(parameters))
    rows = math.ceil(len(parameters) / columns)
    figure = make_subplots(rows=rows, cols=columns, shared_yaxes=True)
    is_best = trials["trial_id"] == best_trial
    for number, name in enumerate(parameters):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        values = trials[name] if _is_numeric(trials[name]) else trials[name].astype(str)
        for chosen, color, symbol in ((~is_best, _OTHER, "circle"), (is_best, _BEST, "star")):
            marker = {"color": color, "symbol": symbol, "size": 14 if symbol == "star" else 8}
            points = graph_objects.Scatter(
                x=values[chosen],
                y=trials[metric][chosen],
                text=trials["trial_id"][chosen],
                mode="markers",
                marker=marker,
                name="best trial" if symbol == "star" else "other trials",
                showlegend=number == 0,
            )
            figure.add_trace(points, **place)
        is_log = _is_numeric(values) and _is_logarithmic(values)
        figure.update_xaxes(title_text=_label(name), type="log" if is_log else None, **place)
    figure.update_yaxes(title_text=metric, col=1)
    figure.update_layout(height=ROW_PIXELS * rows + 80)
    return figure


def _curves(history: dict[str, dict[str, list[Any]]], metric: str, best_trial: str) -> Any:
    graph_objects, _ = _plotly()
    others = [name for name in history if name != best_trial]
    figure = graph_objects.Figure()
    # The best one last: it is drawn over the others.
    for name in [*others[:MAX_CURVES], *history.keys() & {best_trial}]:
        line = {"color": _BEST, "width": 4} if name == best_trial else {"color": _OTHER, "width": 1}
        curve = history[name]
        figure.add_trace(
            graph_objects.Scatter(
                x=curve["iteration"],
                y=curve["value"],
                name=f"{name} (best)" if name == best_trial else name,
                line=line,
                mode="lines+markers" if len(curve["value"]) == 1 else "lines",
                opacity=1.0 if name == best_trial else 0.5,
                showlegend=name == best_trial,
            )
        )
    figure.update_xaxes(title_text="iteration")
    figure.update_yaxes(title_text=metric)
    return figure


def _label(column: str) -> str:
    return column.removeprefix("config/")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_numeric(column: Any) -> bool:
    return bool(column.dtype.kind in "iuf")


def _is_logarithmic(column: Any) -> bool:
    return bool(column.min() > 0 and column.max() / column.min() > LOG_RATIO)
