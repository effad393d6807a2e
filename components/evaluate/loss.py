"""The training objective on held-out clips: fixed timesteps, fixed noise, no guidance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zoetrope.components.evaluate.config import EvaluateConfig
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_table, local_copy

if TYPE_CHECKING:
    from torch import Tensor

    from zoetrope.model.data import LatentBatch, LatentDataset
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.model import MMDiT

HELD_OUT = "held_out"


def held_out_buckets(store: Store, dataset: Mapping[str, Any]) -> list[str]:
    """Names of the buckets that have held-out clips, smallest latent first."""
    index = get_table(store, dataset["index"]).select(["bucket", "split"]).to_pylist()
    present = {row["bucket"] for row in index if row["split"] == HELD_OUT}
    buckets = sorted(dataset["buckets"], key=lambda b: (b["height"] * b["width"] * b["frames"], b["name"]))
    return [bucket["name"] for bucket in buckets if bucket["name"] in present]


def held_out_loss(
    config: EvaluateConfig,
    checkpoint: Mapping[str, Any],
    dataset: Mapping[str, Any],
    bucket: str,
    context: StepContext,
) -> dict[str, float]:
    """Mean flow-matching loss of the checkpoint over held-out clips and timesteps.

    The timesteps are the midpoints of equal parts of [0, 1], without the time shift of training, as in the
    validation loss of Open-Sora; clip i has the same noise at every timestep and in every run.

    Args:
        config: number of timesteps and clips, seed, batch size, threads.
        checkpoint: a `zoetrope.checkpoint.v1` manifest.
        dataset: the `zoetrope.dataset.v1` manifest that it was trained on.
        bucket: name of the bucket to measure in.
        context: store and scratch folder.

    Returns:
        `held_out_loss` and its value for each timestep, `held_out_loss_t05` for t = 0.05.

    Raises:
        ZoetropeError: the dataset or the weights are not what their digests say.
    """
    import torch

    from zoetrope.model.data import DamagedDataError, LatentDataset

    torch.set_num_threads(config.threads)
    times = [(index + 0.5) / config.loss_timesteps for index in range(config.loss_timesteps)]
    totals = torch.zeros(len(times), dtype=torch.float64)
    try:
        clips = LatentDataset.open(dataset, context.store.read, bucket, HELD_OUT, local=context.store.local_path)
        model, flow = _load(checkpoint, context)
        count = min(len(clips), config.loss_samples)
        with torch.inference_mode():
            for indices, batch in _batches(clips, count, config.batch_size):
                noise = _noise(config.seed, indices, batch.latent)
                for number, time in enumerate(times):
                    totals[number] += _squared_error(model, flow, batch, noise, time).double().sum()
    except DamagedDataError as error:
        raise ZoetropeError(f"evaluate: {error}", error.hint) from error
    means = (totals / count).tolist()
    scores = {f"held_out_loss_t{round(100 * t):02d}": mean for t, mean in zip(times, means, strict=True)}
    return {"held_out_loss": sum(means) / len(means), **scores}


def _load(checkpoint: Mapping[str, Any], context: StepContext) -> tuple[MMDiT, FlowConfig]:
    from zoetrope.model.checkpoint import load_weights, make_config
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.config import MMDiTConfig
    from zoetrope.model.mmdit.model import MMDiT

    path = local_copy(context.store, checkpoint["weights"], context.work, checkpoint["stage"])
    model = MMDiT(make_config(MMDiTConfig, checkpoint["config"]["mmdit"]))
    load_weights(model, path)
    return model.eval(), make_config(FlowConfig, checkpoint["config"]["flow"])


def _batches(dataset: LatentDataset, count: int, size: int) -> Iterator[tuple[range, LatentBatch]]:
    for start in range(0, count, size):
        indices = range(start, min(start + size, count))
        yield indices, dataset.batch(indices)


def _noise(seed: int, indices: range, latent: Tensor) -> Tensor:
    """Noise that depends on the clip's position and the seed, not on the batch that it is in."""
    import torch

    shape = latent.shape[1:]
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seed * 1_000_003 + i)) for i in indices]
    )


def _squared_error(model: MMDiT, flow: FlowConfig, batch: LatentBatch, noise: Tensor, time: float) -> Tensor:
    """Mean squared error of the predicted velocity of each clip, [B], as text-to-video."""
    import torch

    from zoetrope.model.conditions import TEXT_TO_VIDEO, condition_latents
    from zoetrope.model.flow import model_time, noisy_sample_and_target
    from zoetrope.model.packing import image_ids, patchify, text_ids

    count, _, frames, height, width = batch.latent.shape
    patch = model.config.patch_size
    times = torch.full((count,), time)
    noisy, target = noisy_sample_and_target(flow, batch.latent.float(), noise, times)
    condition = None
    if model.config.cond_embed:
        kinds = [TEXT_TO_VIDEO] * count
        references = {name: reference.float() for name, reference in batch.references.items()}
        condition = patchify(condition_latents(kinds, references, frames), patch)
    velocity = model(
        patchify(noisy, patch),
        image_ids(count, frames, height, width, patch),
        batch.t5.float(),
        text_ids(count, batch.t5.shape[1]),
        model_time(flow, times, model.img_in.weight.dtype),
        batch.clip.float(),
        cond=condition,
        txt_len=batch.t5_length,
    )
    error: Tensor = (velocity - patchify(target, patch)).square().mean(dim=(1, 2))
    return error
