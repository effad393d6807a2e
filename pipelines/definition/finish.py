"""The work of the exit task: closes the run, however it ended, and shows what it cost and made."""

from __future__ import annotations

from html import escape
from pathlib import Path

from zoetrope.infra.links import address
from zoetrope.infra.runs import RunRecord
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.outputs import DOCUMENT, STYLE, Artifact, write_file
from zoetrope.infra.steps.run_record import finish_run


def finish(state: str, message: str, settings: Settings, page: Artifact) -> None:
    """Closes the run and writes its page.

    Args:
        state: KFP's word for how the steps ended. Servers disagree about the words (`COMPLETE`, `SUCCEEDED`), so it
            only tells a cancelled run from a failed one.
        message: KFP's message of a failure.
        settings: of the pod.
        page: KFP's HTML artifact.
    """
    record, link = finish_run(settings, message, "KILLED" if state.upper().startswith("CANCEL") else "FAILED")
    write_file(Path(page.path), _page(record, link).encode())
    page.metadata["schema"] = "zoetrope.page.v1"


def _page(record: RunRecord, mlflow: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(step)}</td><td>{each.status}</td><td>{each.seconds:.1f}</td><td>{each.cost_usd:f}</td>"
        f"<td>{escape(each.key_figure or each.message)}</td></tr>"
        for step, each in record.steps.items()
    )
    link = f"<nav>{address('MLflow run', mlflow)}</nav>" if mlflow else ""
    facts = f"<p>{record.status}, {record.cost_usd:f} USD by {escape(record.price_sheet)}. "
    facts += f"{escape(record.message)}</p>"
    head = "<tr><th>step<th>status<th>seconds<th>USD<th>key figure</tr>"
    title = f"run {escape(record.run_id)}"
    return (
        f"{DOCUMENT} html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>{link}<h1>{title}</h1>"
        f"{facts}<table>{head}{rows}</table>"
    )
