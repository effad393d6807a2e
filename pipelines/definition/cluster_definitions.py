"""The pipelines as a cluster runs them: the same steps, few typed inputs, an exit task and a place for each pod."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.definition.definitions import Place, Steps, add_data, add_evaluate, add_report, add_train
from zoetrope.pipelines.definition.finish_component import finish
from zoetrope.pipelines.definition.step_table import PIPELINES


def build_for_cluster(pipeline: str, recipe: str, recipe_name: str, images: str, place: Place) -> Any:
    """The KFP pipeline object of a pipeline and a recipe for a cluster.

    Args:
        pipeline: `data`, `train`, `evaluate` or `full`.
        recipe: name of the recipe, or a whole recipe as JSON; a constant of the compiled YAML.
        recipe_name: the name that the recipe gives itself.
        images: JSON, name of an image -> reference by digest; a constant as well.
        place: says where the pod of a task runs and what it is given.
    """
    if pipeline not in PIPELINES:
        raise ZoetropeError(f"unknown pipeline {pipeline!r}", f"pipelines: {', '.join(PIPELINES)}")
    name = f"zoetrope-{recipe_name}-{pipeline}".replace("_", "-")
    constants = {"recipe": recipe, "pipeline": pipeline, "images": images}

    def run(body: Callable[[Steps], None], **inputs: Any) -> None:
        last = finish()
        last.set_caching_options(False)
        place(last, "finish")
        with dsl.ExitHandler(last, name="steps"):
            body(Steps(place, **constants, **inputs))

    def data_body(steps: Steps) -> None:
        add_data(steps)
        add_report(steps)

    @dsl.pipeline(name=name, description=f"Raw video to a dataset version, recipe {recipe_name}.")
    def data(source: str = "", overrides: str = "", budget_usd: float = 0.0) -> None:
        """Raw video to a dataset version.

        Args:
            source: where raw video comes from: s3://bucket/prefix with a catalogue, samples:SEED, or empty for the
                recipe's own.
            overrides: changes of the recipe, `path=value`, several apart by `; `, e.g. curate.filters.motion.minimum=1.
            budget_usd: the most that this run may cost, in US dollars; 0 takes the recipe's.
        """
        run(data_body, source=source, overrides=overrides, budget_usd=budget_usd)

    @dsl.pipeline(name=name, description=f"A dataset version to a promoted model, recipe {recipe_name}.")
    def train(
        dataset: str = "latest", overrides: str = "", budget_usd: float = 0.0, promote_when_green: bool = True
    ) -> None:
        """A dataset version to a promoted model.

        Args:
            dataset: tag of a dataset version (e.g. nano-v3), `latest`, or a reference URI@sha256:digest.
            overrides: changes of the recipe, `path=value`, several apart by `; `, e.g. stages.stage_3.steps=240.
            budget_usd: the most that this run may cost, in US dollars; 0 takes the recipe's.
            promote_when_green: whether a checkpoint that passes every check becomes champion; if not, it is
                registered and stays candidate.
        """
        run(
            lambda steps: add_evaluate(steps, add_train(steps, steps.jobs["dataset_version"])),
            dataset=dataset,
            overrides=overrides,
            budget_usd=budget_usd,
            promote_when_green=promote_when_green,
        )

    @dsl.pipeline(name=name, description=f"A checkpoint to scores and the gate, recipe {recipe_name}.")
    def evaluation(
        checkpoint: str, overrides: str = "", budget_usd: float = 0.0, promote_when_green: bool = True
    ) -> None:
        """A checkpoint to scores and the gate.

        Args:
            checkpoint: reference to a checkpoint, URI@sha256:digest.
            overrides: changes of the recipe, `path=value`, several apart by `; `, e.g. generate.videos=192.
            budget_usd: the most that this run may cost, in US dollars; 0 takes the recipe's.
            promote_when_green: whether a checkpoint that passes every check becomes champion; if not, it is
                registered and stays candidate.
        """
        run(
            lambda steps: add_evaluate(steps, checkpoint),
            overrides=overrides,
            budget_usd=budget_usd,
            promote_when_green=promote_when_green,
        )

    @dsl.pipeline(name=name, description=f"Raw video to a promoted model, recipe {recipe_name}.")
    def full(source: str = "", overrides: str = "", budget_usd: float = 0.0, promote_when_green: bool = True) -> None:
        """Raw video to a promoted model.

        Args:
            source: where raw video comes from: s3://bucket/prefix with a catalogue, samples:SEED, or empty for the
                recipe's own.
            overrides: changes of the recipe, `path=value`, several apart by `; `, e.g. stages.stage_3.steps=240.
            budget_usd: the most that this run may cost, in US dollars; 0 takes the recipe's.
            promote_when_green: whether a checkpoint that passes every check becomes champion; if not, it is
                registered and stays candidate.
        """
        run(
            lambda steps: add_evaluate(steps, add_train(steps, add_data(steps))),
            source=source,
            overrides=overrides,
            budget_usd=budget_usd,
            promote_when_green=promote_when_green,
        )

    return {"data": data, "train": train, "evaluate": evaluation, "full": full}[pipeline]
