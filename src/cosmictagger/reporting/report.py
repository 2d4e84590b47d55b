"""report.html: a run in one file that any browser shows, made from the files in its log directory alone."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cosmictagger.errors import UserError
from cosmictagger.metrics.interactions import InteractionGroup
from cosmictagger.reporting.curves import draw_curves
from cosmictagger.reporting.displays import DISPLAY_DIRECTORY
from cosmictagger.reporting.files import write_atomically
from cosmictagger.reporting.interactions import INTERACTION_COLUMNS, interaction_cells
from cosmictagger.reporting.metrics_log import metrics_path
from cosmictagger.reporting.progress import format_rate, format_value, metric_title
from cosmictagger.reporting.results import read_results

CURVES_FILE = "curves.png"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: right; font-weight: normal }
td:first-child, th:first-child { text-align: left } thead th { border-bottom: 1px solid #999; font-weight: 600 }
td { font-variant-numeric: tabular-nums } img { max-width: 100%; margin: .5rem 0 }
.merit { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem } .merit div { font-size: .9rem; color: #666 }
.merit b { display: block; font-size: 1.5rem; color: #0072b2 } .bad { color: #d55e00 } pre { font-size: .85rem }
"""


def write_report(log_directory: Path) -> Path:
    """Write report.html for the run whose results.json is in `log_directory`, drawing curves.png on the way.

    Every PNG in displays/ goes in, in the order of the names. Returns the path of the report; raises UserError
    where there are no results or the directory cannot be written.
    """
    results = read_results(log_directory / "results.json")
    path = log_directory / "report.html"
    try:
        draw_curves(metrics_path(log_directory), log_directory / CURVES_FILE)
        write_atomically(path, _page(results, log_directory))
    except OSError as error:
        raise UserError(f"--log-directory: cannot write '{path}': {error.strerror}.") from None
    return path


def _page(results: Mapping[str, Any], log_directory: Path) -> str:
    title = f"CosmicTagger: {results['mode']}, {results['provenance']['start']}"
    curves = [log_directory / CURVES_FILE] if (log_directory / CURVES_FILE).exists() else []
    displays = sorted((log_directory / DISPLAY_DIRECTORY).glob("*.png"))
    body = [
        f"<h1>{_text(title)}</h1>",
        _status(results),
        _figures_of_merit(results),
        _metrics(results["metrics"]),
        _facts("Target", results.get("target")),
        _timing(results["timing"]),
        _pictures("Training curves", curves),
        _pictures("Event displays", displays),
        _facts("Network", results["model"]),
        _facts("System", results["system"]),
        _facts("Provenance", results["provenance"]),
        _section("Configuration", f"<pre>{_text(yaml.safe_dump(results['config'], sort_keys=False))}</pre>"),
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _status(results: Mapping[str, Any]) -> str:
    if results["status"] == "completed":
        return ""
    return f'<p class="bad">{_text(results["status"])}: {_text(results["reason"])}</p>'


def _figures_of_merit(results: Mapping[str, Any]) -> str:
    throughput = results["throughput"] or {}
    io = results["io"] or {}
    merits = [("ranks", str(results["ranks"]))]
    if throughput.get("images_per_second") is not None:
        merits.append(("images/s, all ranks", format_rate(throughput["images_per_second"])))
        merits.append(("images/s, each rank", format_rate(throughput["images_per_second_per_rank"])))
    if throughput:
        merits.append(("timed steps", f"{throughput['steps']} (+ {throughput['warmup_steps']} warm-up)"))
    if io.get("wait_fraction") is not None:
        merits.append(("time waiting for data", f"{100 * io['wait_fraction']:.1f} %"))
    if results["memory"]:
        merits.append(("peak memory of a rank", f"{results['memory']['peak_resident_bytes'] / 2**30:.2f} GiB"))
    cells = "".join(f"<div><b>{_text(value)}</b>{_text(name)}</div>" for name, value in merits)
    return f'<div class="merit">{cells}</div>'


def _metrics(metrics: Mapping[str, Any]) -> str:
    tables = []
    for split in ("train", "validation"):
        group = metrics.get(split)
        if group is None:
            continue
        title = f"{split}, {group['images']} images, mean of images"
        loss = (
            []
            if group["loss"] is None
            else [["loss", *("" for _ in group["mean"]["planes"]), format_value(group["loss"])]]
        )
        tables.append(_metric_table(title, group["mean"], loss))
        if group["pooled"] is not None:
            tables.append(_metric_table(f"{split}, all pixels pooled", group["pooled"], []))
    if metrics.get("interactions"):  # runs of before did not have them
        cells = [interaction_cells(InteractionGroup(**group)) for group in metrics["interactions"]]
        tables.append(_table(INTERACTION_COLUMNS, cells))
    return _section("Metrics", "<br>".join(tables)) if tables else ""


def _metric_table(title: str, table: Mapping[str, Any], more: Sequence[Sequence[str]]) -> str:
    columns = [title, *(f"plane {number}" for number in range(len(table["planes"]))), "average"]
    rows = [
        [metric_title(name), *(format_value(plane.get(name)) for plane in table["planes"]), format_value(value)]
        for name, value in table["average"].items()
    ]
    return _table(columns, [*rows, *more])


def _timing(timing: Mapping[str, Any] | None) -> str:
    if not timing or not timing["step"]["count"]:
        return ""
    step_total = timing["step"]["total"]
    columns = ["clock", "records", "median (s)", "95 % (s)", "total (s)", "of step time"]
    rows = []
    for name, clock in timing.items():
        if not clock["count"]:
            continue
        apart = name in ("validation", "checkpoint")
        share = "" if apart or not step_total else f"{100 * clock['total'] / step_total:.1f} %"
        seconds = [format_value(clock[key]) for key in ("median", "p95", "total")]
        rows.append([name.replace("_", " "), str(clock["count"]), *seconds, share])
    return _section("Where the time goes", _table(columns, rows))


def _pictures(title: str, paths: Sequence[Path]) -> str:
    images = []
    for path in paths:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        images.append(f'<img alt="{_text(path.stem)}" src="data:image/png;base64,{data}">')
    return _section(title, "\n".join(images)) if images else ""


def _facts(title: str, facts: Mapping[str, Any] | None) -> str:
    if not facts:
        return ""
    return _section(title, _table([], [[name.replace("_", " "), _fact(value)] for name, value in facts.items()]))


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _section(title: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2>\n{content}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if columns else ''}\n<tbody>{body}</tbody></table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
