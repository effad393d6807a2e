"""The steps `autoencoder` and `stage_1` to `stage_3`: each launches one training job and files what it made.

The step's own process does without PyTorch; the work is in `worker.py`, in as many processes as the config says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from zoetrope.components.train.config import AutoencoderStepConfig, TrainStageConfig
from zoetrope.components.train.job import TrainingJob, local_app, pods_app, require_world
from zoetrope.components.train.page import render_page
from zoetrope.components.train.perceptual import with_stored_weights
from zoetrope.components.train.pretrained import import_weights, require_file
from zoetrope.infra import launch
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.placement import Placement
from zoetrope.infra.references import Reference
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps import StepContext, StepResult, tracking_environment
from zoetrope.infra.store import Store, get_json, put_file_content, put_json
from zoetrope.model.data.loader import reference_names

if TYPE_CHECKING:
    from torchx.specs import AppDef

AUTOENCODER = "zoetrope.autoencoder.v1"
CHECKPOINT = "zoetrope.checkpoint.v1"
CAPTIONS = "zoetrope.captions.v1"
DATASET = "zoetrope.dataset.v1"
LOCAL_RESTARTS = 3
"""Of a job on this machine whose rank hung or was killed; a cluster has its own (`Placement.max_restarts`)."""


def train_autoencoder(config: AutoencoderStepConfig, captions: str, context: StepContext) -> StepResult:
    """Trains the video autoencoder on the captioned clips of the training split, or takes released weights.

    Args:
        config: architecture, loop, shape of the clips; or the file of released weights.
        captions: reference of a `zoetrope.captions.v1` product.
        context: store, scratch folder, metrics, events.

    Returns:
        The `zoetrope.autoencoder.v1` product.

    Raises:
        ZoetropeError: no clip is long enough, the weights of LPIPS are not there, the job failed (with the end of its
            log), or the released weights do not fit.
    """
    _product(context.store, captions, CAPTIONS)
    if config.pretrained:
        return _take_pretrained(config, captions, context)
    settings = with_stored_weights(config, context.store).model_dump(mode="json")
    result = _run("autoencoder", settings, {"captions": captions}, config.workers, context)
    manifest = {
        "schema": AUTOENCODER,
        **_description(config),
        "weights": result["weights"],
        "latent_mean": result["latent_mean"],
        "latent_std": result["latent_std"],
        "training": {
            **settings["training"],
            "clips": result["samples"],
            "shape": [config.frames, config.height, config.width],
            "fps": config.fps,
            "workers": config.workers,
            "final_loss": result["final_loss"],
        },
    }
    # beside other losses the absolute error is a metric of its own
    _, absolute = result["curve"].get("nll_rec", result["curve"]["loss"])[-1]
    error = absolute / config.training.losses.scale(config.height, config.width)
    key_figure = f"mean absolute error {error / 2:.3f} of the pixel range"
    return _filed(manifest, result, settings["training"], key_figure, context)


def _description(config: AutoencoderStepConfig) -> dict[str, Any]:
    """What a product says about the architecture, and about tiles where there are any."""
    tiles = {} if config.tiling is None else {"tiling": asdict(config.tiling)}
    return {"kind": config.kind, "config": asdict(config.chosen), **tiles}


def _take_pretrained(config: AutoencoderStepConfig, captions: str, context: StepContext) -> StepResult:
    """Released weights as a product: checked and stored; the latents are measured where nothing is known of them."""
    taken = import_weights(config, context)
    known = config.chosen.latent_statistics
    mean, std = known if known is not None else _measured(config, captions, taken.weights, context)
    manifest = {
        "schema": AUTOENCODER,
        **_description(config),
        "weights": str(taken.weights),
        "latent_mean": mean,
        "latent_std": std,
        "pretrained": {"file": taken.name, "sha256": taken.weights.digest},
    }
    key_figure = f"{taken.name}, {taken.parameters / 1e6:,.1f} million parameters, not trained here"
    metrics = {"parameters": float(taken.parameters)}
    return StepResult(
        product=put_json(context.store, manifest),
        key_figure=key_figure,
        metrics=metrics,
        parameters={"kind": config.kind, "pretrained": taken.name},
        artifacts={"weights": taken.weights},
        page=render_page(context.step, key_figure, metrics, []),
    )


def _measured(
    config: AutoencoderStepConfig, captions: str, weights: Reference, context: StepContext
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the latents of the training clips, by the job that would train."""
    inputs = {"captions": captions, "weights": str(weights)}
    result = _run("autoencoder", config.model_dump(mode="json"), inputs, config.workers, context)
    return result["latent_mean"], result["latent_std"]


def train_stage(config: TrainStageConfig, dataset: str, parent: str, context: StepContext) -> StepResult:
    """Trains one stage of the video model.

    Args:
        config: name, loop, architecture, flow.
        dataset: reference of a `zoetrope.dataset.v1` product.
        parent: reference of the `zoetrope.checkpoint.v1` product to start from; empty starts from scratch.
        context: store, scratch folder, metrics, events.

    Returns:
        The `zoetrope.checkpoint.v1` product, with the averaged weights.

    Raises:
        ZoetropeError: the dataset has no such bucket, the parent does not fit, or the job failed.
    """
    manifest = _product(context.store, dataset, DATASET)
    _require_bucket(manifest, config)
    if parent:
        manifest_of_parent = _product(context.store, parent, CHECKPOINT)
        _require_parent(manifest_of_parent, config)
        _require_text_mode(manifest, get_json(context.store, manifest_of_parent["dataset"]), config.name)
    settings = config.model_dump(mode="json")
    inputs = {"dataset": dataset, "parent": parent}
    if config.pretrained and not parent:  # what is in the file is checked by the workers
        file = require_file(config.pretrained, "model.pretrained")
        inputs["pretrained"] = str(put_file_content(context.store, file))
    result = _run("stage", settings, inputs, config.workers, context)
    checkpoint = {
        "schema": CHECKPOINT,
        "stage": config.name,
        "steps": config.stage.steps,
        "config": {"mmdit": result["mmdit"], "flow": settings["flow"], "stage": settings["stage"]},
        "weights": result["weights"],
        "dataset": dataset,
        "autoencoder": manifest["autoencoder"],
        "text": str(put_json(context.store, manifest["text"])),
        "parent": parent,
        "attention_backend": result["attention_backend"],
        "final_loss": result["final_loss"],
    }
    key_figure = f"loss {result['final_loss']:.3f} after {config.stage.steps} steps"
    return _filed(checkpoint, result, settings["stage"], key_figure, context)


def _run(
    kind: Literal["autoencoder", "stage"],
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    workers: int,
    context: StepContext,
) -> dict[str, Any]:
    """Launches the job, waits for it and reads its result."""
    run = Settings()
    pods = run.cluster
    gpus = context.placement.gpus if context.placement else run.resources.get(context.step, {}).get("gpus", 0)
    context.work.mkdir(parents=True, exist_ok=True)
    job = TrainingJob.of(kind, settings, inputs, context, pods=pods, gpus=int(gpus))
    store, place = context.store, context.store.uri(job.result)
    if pods and store.exists(place):
        context.progress("the job ended while no launcher followed it")
    else:
        _launch(job, workers, context)
    result: dict[str, Any] = json.loads(store.read(place))
    if job.mirror:
        for uri in list(store.list(f"{job.mirror}/")):
            store.delete(uri)
    return result


def _launch(job: TrainingJob, workers: int, context: StepContext) -> None:
    if job.mirror:
        placement = context.placement or Placement()
        require_world(workers, placement, context.step)
        app = pods_app(context.step, job.store, job.put(), placement.nodes)
    else:
        app = local_app(context.step, job.write(context.work / "job.json").absolute(), workers)
    for restarts_left in reversed(range(1 if job.mirror else 1 + LOCAL_RESTARTS)):
        said = _run_once(app, job, context)
        if said is None:
            return
        if not said.pop("restart", False) or not restarts_left:
            raise ZoetropeError(**said)
        context.progress(f"{said['headline']}; it is started again and goes on from its last state")


def _run_once(app: AppDef, job: TrainingJob, context: StepContext) -> dict[str, Any] | None:
    """Runs the job to its end; what its ranks said where they failed."""
    failure = context.store.uri(job.failure)
    context.store.delete(failure)
    try:
        launch.run_app(
            app,
            context,
            environment=partial(tracking_environment, context),
            digest=job.digest,
            result=job.result,
        )
    except ZoetropeError as error:
        if not context.store.exists(failure):
            raise
        said: dict[str, Any] = json.loads(context.store.read(failure))
        return said | {"hint": said["hint"] or error.hint}
    return None


def _filed(
    manifest: Mapping[str, Any],
    result: Mapping[str, Any],
    loop: Mapping[str, Any],
    key_figure: str,
    context: StepContext,
) -> StepResult:
    curve: dict[str, list[list[float]]] = result["curve"]
    speed = [value for _, value in curve["samples_per_second"]]
    metrics = {
        "final_loss": result["final_loss"],
        "samples_per_second": sorted(speed)[len(speed) // 2],
        "samples_seen": float(loop["steps"] * loop["batch_size"]),
        "parameters": float(result["parameters"]),
        "resumed_at_step": float(result["resumed_at"]),
    }
    parameters = {name: value for name, value in loop.items() if not isinstance(value, dict)}
    for group in ("optimizer", "conditions", "losses"):
        parameters |= _flat(group, loop.get(group, {}))
    return StepResult(
        product=put_json(context.store, manifest),
        key_figure=key_figure,
        metrics=metrics,
        parameters=parameters,
        artifacts={
            "weights": Reference.parse(result["weights"]),
            "curve": put_json(context.store, curve),
        },
        page=render_page(context.step, key_figure, metrics, curve["loss"]),
    )


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`{a: {b: 1}}` as `{"prefix.a.b": 1}`, but the optimizer's drops, which are one setting, as they are."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, dict) and name != "drops"
        flat |= _flat(f"{prefix}.{name}", value) if nested else {f"{prefix}.{name}": value}
    return flat


def _product(store: Store, reference: str, schema: str) -> dict[str, Any]:
    product: dict[str, Any] = get_json(store, reference)
    if product.get("schema") != schema:
        raise ZoetropeError(
            f"{reference}: schema {product.get('schema')!r} is not {schema}", "give the product of the right step"
        )
    return product


def _require_bucket(dataset: Mapping[str, Any], config: TrainStageConfig) -> None:
    buckets = {bucket["name"]: bucket for bucket in dataset["buckets"]}
    if config.stage.bucket not in buckets:
        raise ZoetropeError(
            f"{config.name}.bucket: dataset {dataset['name']!r} has no bucket {config.stage.bucket!r}",
            f"choose from {', '.join(sorted(buckets))}, or add it to encode.buckets",
        )
    channels = buckets[config.stage.bucket]["latent"][0]
    try:
        reference_names(dataset, config.stage.bucket, config.stage.drawn_conditions)
    except ValueError as error:
        raise ZoetropeError(f"{config.name}.conditions: {error}", "or take the v2v kinds out of the stage") from error
    if channels != config.mmdit.latent_channels:
        raise ZoetropeError(
            f"model.mmdit.in_channels: {config.mmdit.in_channels} means {config.mmdit.latent_channels} latent "
            f"channels, the dataset's autoencoder has {channels}",
            f"set it to {channels * config.mmdit.patch_size**2}",
        )


def _require_text_mode(dataset: Mapping[str, Any], of_parent: Mapping[str, Any], name: str) -> None:
    ours, theirs = (str(manifest["text"].get("mode", "ragged")) for manifest in (dataset, of_parent))
    if ours != theirs:
        raise ZoetropeError(
            f"{name}: the dataset's text is {ours}, the parent checkpoint learned {theirs} text",
            f"one cannot be made from the other (released weights know padded text): encode the clips again with "
            f"encode.text.mode {theirs}",
        )


def _require_parent(parent: Mapping[str, Any], config: TrainStageConfig) -> None:
    theirs = {**parent["config"]["mmdit"], "cond_embed": True}
    ours = {**config.model_dump(mode="json")["mmdit"], "cond_embed": True}
    different = sorted(name for name in ours if ours[name] != theirs.get(name))
    if different:
        name = different[0]
        raise ZoetropeError(
            f"{config.name}: model.mmdit.{name} is {ours[name]}, the parent checkpoint has {theirs.get(name)}",
            "train the stages before it again with the same model, or restore the old value",
        )
    signs = config.flow.velocity, parent["config"]["flow"].get("velocity", "released")
    if signs[0] != signs[1]:
        raise ZoetropeError(
            f"{config.name}: model.flow.velocity is {signs[0]}, the parent checkpoint predicts {signs[1]} velocities",
            f"the two have opposite signs: set model.flow.velocity to {signs[1]}, or train from the start",
        )
    if parent["config"]["mmdit"]["cond_embed"] and not config.stage.takes_images:
        raise ZoetropeError(
            f"{config.name}.conditions: the parent checkpoint takes images, this stage gives it none",
            "add image conditions such as i2v_head, or start from a text-to-video checkpoint",
        )
