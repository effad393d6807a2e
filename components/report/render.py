"""Puts the sections into the template."""

from __future__ import annotations

from collections.abc import Sequence

from zoetrope.components.report import formatting
from zoetrope.components.report.config import ReportConfig
from zoetrope.components.report.data_sections import data_sections
from zoetrope.components.report.model_sections import samples, scores, trainings
from zoetrope.components.report.records import StepRecord, by_step
from zoetrope.components.report.run_sections import cost, lineage, links, promotion_outcome
from zoetrope.infra.store import Store

BYTES_PER_MEGABYTE = 1_000_000
# Left for everything that is not a sample: curves, tables, style.
RESERVED_BYTES = 2_000_000


def render(config: ReportConfig, records: Sequence[StepRecord], store: Store) -> str:
    """The report as one HTML document that loads nothing from outside.

    Args:
        config: what only the run itself knows.
        records: the run's records with their products.
        store: where videos, curves and tables lie.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Prompts, file names and captions come from users: everything is escaped.
    environment = Environment(
        loader=PackageLoader("zoetrope.components.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("money", "duration", "size", "number", "percent", "p_value"):
        environment.filters[name] = getattr(formatting, name)
    room = max(0, int(config.maximum_megabytes * BYTES_PER_MEGABYTE) - RESERVED_BYTES)
    pairs, sample_total, left_out = samples(store, records, config.sample_pairs, room)
    steps = by_step(records)
    return environment.get_template("template.html").render(
        config=config,
        promotion_outcome=promotion_outcome(records),
        data=data_sections(store, records),
        trainings=trainings(store, records),
        pairs=pairs,
        sample_total=sample_total,
        samples_left_out=left_out,
        scores=scores(records),
        cost=cost(records),
        lineage=lineage(config, records),
        links=links(config, records),
        kept=steps["curate"].product.get("counts", {}).get("kept") if "curate" in steps else None,
    )
