"""The one table of steps: where their code is, what they read and in which order they stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepRow:
    """One step.

    Attributes:
        name: name in a run.
        module: the module with the work; its imports make the code digest.
        inputs: input name -> name of the step that makes it.
        component: the module with the KFP component.
    """

    name: str
    module: str
    inputs: dict[str, str]
    component: str


def _row(name: str, folder: str, component: str = "component", **inputs: str) -> StepRow:
    package = f"zoetrope.components.{folder}"
    return StepRow(name, f"{package}.step", inputs, f"{package}.{component}")


STEPS: dict[str, StepRow] = {
    row.name: row
    for row in (
        _row("ingest", "ingest"),
        _row("curate", "curate", sources="ingest"),
        _row("caption", "caption", clips="curate", sources="ingest"),
        _row("autoencoder", "train", "autoencoder_component", captions="caption"),
        _row("encode", "encode", captions="caption", autoencoder="autoencoder"),
        _row("stage_1", "train", "train_stage_component", dataset="encode"),
        _row("stage_2", "train", "train_stage_component", dataset="encode", parent="stage_1"),
        _row("stage_3", "train", "train_stage_component", dataset="encode", parent="stage_2"),
        _row("generate", "generate", checkpoint="stage_3"),
        _row("evaluate", "evaluate", videos="generate"),
        _row("promote", "promote", checkpoint="stage_3", scores="evaluate"),
        _row("report", "report"),
    )
}
DATA_STEPS = ("ingest", "curate", "caption", "autoencoder", "encode")
TRAIN_STEPS = ("stage_1", "stage_2", "stage_3")
EVALUATE_STEPS = ("generate", "evaluate", "promote", "report")
PIPELINES: dict[str, tuple[str, ...]] = {
    "data": (*DATA_STEPS, "report"),
    "train": (*TRAIN_STEPS, *EVALUATE_STEPS),
    "evaluate": EVALUATE_STEPS,
    "full": (*DATA_STEPS, *TRAIN_STEPS, *EVALUATE_STEPS),
}
UNCACHED = ("resolve", "promote", "report")
"""They read the registry and the run itself, which no parameter can name."""
