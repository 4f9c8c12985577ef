"""One self-contained HTML page of a run: charts are inline SVG, nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedmosaic.io import write_atomically
from fedmosaic.registry import METRICS
from fedmosaic.report import costs, exchange, helped, matrix, missing, privacy, text, verdict, worth
from fedmosaic.report.curves import curves
from fedmosaic.report.heat import heat
from fedmosaic.report.questions import questions
from fedmosaic.report.record import RunRecord, read_run
from fedmosaic.report.rows import final_rows, mean_row, means_over, short_model
from fedmosaic.report.tasks import task_rows
from fedmosaic.report.templates import templates

_PROTOCOLS = {
    "dynamic": "each client's tasks come one after another",
    "static": "each client's tasks are mixed in every round",
}


def write_report(folder: Path, *, examples: bool = True) -> Path:
    """Write ``report.html`` into a run folder; the run need not be done.

    Equal files give an equal page. Everything that comes from files is escaped, and the page's content security policy
    admits no script but its own.

    Args:
        folder: a run folder.
        examples: whether a few of the clients' test questions are on it, with their images.

    Returns:
        Path of the page.

    Raises:
        SettingsError: not a run folder.
        RunError: a file in it is damaged.
    """
    record = read_run(folder)
    if not examples:
        record = replace(record, examples={})
    page = folder / "report.html"
    write_atomically(page, render(record, (folder / "settings.toml").read_text(encoding="utf-8")))
    return page


def render(record: RunRecord, settings_text: str, *, live: bool = False) -> str:
    """Return the page's HTML.

    Args:
        record: the run.
        settings_text: its ``settings.toml``.
        live: whether it takes up what is new by itself, from the server that it came from.
    """
    names = ["slider.html", *(["live.html"] if live else [])]
    scripts = [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in names]
    admitted = " ".join(f"'{script_hash(script)}'" for script in scripts)
    return (
        templates()
        .get_template("page.html")
        .render(
            scripts=[Markup(script) for script in scripts],
            policy=Markup(f"img-src data:; script-src {admitted}" + ("; connect-src 'self'" if live else "")),
            live=live,
            settings_text=settings_text,
            **_content(record),
        )
    )


def _content(record: RunRecord) -> dict[str, Any]:
    settings = record.settings
    scenario, mean = settings.scenario, mean_row(record)
    results = record.results
    rows = helped.help_rows(record)
    own, others, unseen = (results.self_, results.others, results.unseen) if results else (None, None, None)
    return {
        "settings": settings,
        "scenario": scenario,
        "protocol": f"{scenario.protocol} protocol ({_PROTOCOLS[scenario.protocol]})",
        "scored": text.scored(settings.evaluation),
        "models": [short_model(model) for model in scenario.models],
        "finished": record.results is not None,
        "status": verdict.status(record),
        "answer": worth.answer(record),
        "against_alone": worth.against_alone(record),
        "sentences": verdict.sentences(record),
        "gained": [said for part in worth.PARTS if (said := worth.gained(record, part))],
        "questions": questions(record),
        "help_rows": rows,
        "downloads_known": any(row.exchanged_self or row.exchanged_others for row in rows),
        "even_split": helped.even_split(record),
        "answers": record.answers,
        "matrix": (shown := matrix.matrix(record)),
        "left_out": len(record.clients) > len(shown[0]) or len(scenario.task_names) > len(shown[1]),
        "exchange": exchange.line(record),
        "exchange_costs": exchange.costs(record),
        "exchanged": results.exchanged if results else None,
        "metrics": ["Self", "Others"] if len(scenario.clients) > 1 else ["Self"],
        "rows": final_rows(record),
        "mean": mean,
        "means_over": means_over(record, mean),
        "messages": costs.messages(record),
        "open_metric": METRICS.load(settings.evaluation.open_metric).title,
        "last": record.last_round("self"),
        "last_others": record.last_round("others"),
        "has_local": record.reference is not None,
        "over_local": record.alone is not None,
        "reference": record.reference.settings.method if record.reference else "",
        "reference_status": verdict.status(record.reference) if record.reference else "",
        "auc": {"self": own.auc if own else None, "others": others.auc if others else None},
        "unseen": unseen.last if unseen else None,
        "curves": curves(record),
        "not_finite": record.not_finite,
        "missing": missing.line(record),
        "missing_rows": missing.rows(record),
        "heat": heat(record),
        "task_rows": task_rows(record),
        "costs": dict(costs.cost_rows(record)),
        "times_reference": costs.times_reference(record),
        "elapsed": text.duration(costs.elapsed(record)),
        "started": costs.started(record),
        "resumed": costs.resumed(record),
        "promise": privacy.promise(record),
        "private": privacy.line(record),
        "privacy_rows": privacy.rows(record),
        "environment": _flat(record.environment),
    }


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def script_hash(element: str) -> str:
    """Return the content security policy's name for a page's script.

    Args:
        element: the whole element, as it stands on the page.
    """
    code = element.strip().removeprefix("<script>").removesuffix("</script>")
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
