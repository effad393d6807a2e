"""Training of the video autoencoder on decoded clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.training.config import AdversarialConfig, AutoencoderTrainingConfig, PerceptualConfig
from zoetrope.model.training.guards import replacement
from zoetrope.model.training.loop import Resume, TrainingResult, train
from zoetrope.model.training.losses.adversarial import Adversary
from zoetrope.model.training.losses.perceptual import load_perceptual_distance, video_distance
from zoetrope.model.training.objective import MetricSink
from zoetrope.model.training.process_group import ProcessGroup, batch_indices, generator_for


class VideoClips(Protocol):
    """Decoded clips of one shape."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def batch(self, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Clips by position: uint8 [B, T, H, W, 3]."""
        ...


def to_pixels(frames: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [B, T, H, W, 3] -> float32 [B, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def last_weight(model: VideoDCAE) -> Tensor:
    """The weight of the decoder's last convolution."""
    return [module for module in model.decoder.modules() if isinstance(module, nn.Conv3d)][-1].weight


@dataclass(frozen=True)
class _Videos:
    """What a worker contributes to a step: float32 [B, 3, T, H, W] in [-1, 1], and the positions of the clips."""

    pixels: Tensor
    names: Sequence[str]


class AutoencoderObjective:
    """The loss of one worker in one step, and the discriminator that learns beside the autoencoder.

    The loss is nll + gen_w * gen, with nll = nll_rec + nll_per: absolute error, LPIPS with its weight, the generator's
    loss and the weight of the game. Its parts are metrics under these names, with `disc`, the discriminator's loss
    (the released code's names; its `all` is the loop's `loss`). The absolute error alone has no parts to report.
    """

    def __init__(
        self, model: VideoDCAE, clips: VideoClips, config: AutoencoderTrainingConfig, workers: ProcessGroup
    ) -> None:
        """Reads the weights of LPIPS and makes the discriminator, where the config has them.

        Raises:
            ValueError: the weights of LPIPS are not given or do not fit.
        """
        self.clips, self.config, self.workers = clips, config, workers
        self.precision, self.data_world = config.precision, workers.world
        self.last_weight = last_weight(model)
        self.device = self.last_weight.device
        perceptual, adversarial = config.losses.perceptual, config.losses.adversarial
        self.perceptual_weight, self.distance, self.adversary = 0.0, None, None
        if isinstance(perceptual, PerceptualConfig):
            self.perceptual_weight = perceptual.weight
            self.distance = load_perceptual_distance(perceptual.weights).to(self.device)
        if isinstance(adversarial, AdversarialConfig):
            self.adversary = Adversary(adversarial, config.steps, config.seed, workers, self.device)
        self._terms: dict[str, Tensor] = {}
        self._videos: tuple[Tensor, Tensor] | None = None

    def prepare(self, position: int, avoided: frozenset[str]) -> _Videos:
        """The clips of a step, or one frame of each."""
        config, step = self.config, position
        indices = batch_indices(len(self.clips), config.batch_size, step, config.seed, self.workers)
        out = {int(name) for name in avoided}
        indices = [replacement(index, out, range(len(self.clips))) for index in indices]
        frames = self.clips.batch(indices)
        # drawn alike on all workers: a step of images is much shorter, and the slowest worker sets the pace
        alike = generator_for(config.seed, step, 0)
        if torch.rand((), generator=alike).item() < config.image_probability:
            chosen = int(torch.randint(frames.shape[1], (), generator=alike))
            frames = frames[:, chosen : chosen + 1]
        video = to_pixels(frames)
        return _Videos(video.pin_memory() if self.device.type == "cuda" else video, [str(index) for index in indices])

    def samples(self, prepared: _Videos) -> tuple[Sequence[str], None]:
        """Positions of the clips; their losses are not told apart."""
        return prepared.names, None

    def work(self, prepared: _Videos) -> tuple[int, float]:
        """Nothing is counted."""
        return 0, 0.0

    def report(self) -> Mapping[str, float]:
        """Nothing further."""
        return {}

    def losses(self, model: nn.Module, prepared: _Videos, step: int) -> list[Callable[[], Tensor]]:
        """See `loop.Objective`; one pack."""
        return [partial(self._loss_of, model, prepared.pixels, step)]

    def _loss_of(self, model: nn.Module, video: Tensor, step: int) -> Tensor:
        video = video.to(self.device, non_blocking=True)
        half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            reconstruction: Tensor = model(video).float()
            return self._loss(video, reconstruction, step)

    def update(self, step: int) -> None:
        """The discriminator learns from the videos of this step, if the game is on."""
        if self.adversary is not None and self._videos is not None:
            half = self.config.precision == "bfloat16"
            with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
                self._terms["disc"] = self.adversary.train_step(*self._videos, step)
            self._videos = None

    def terms(self) -> Mapping[str, Tensor]:
        """The parts of the last step's loss, detached."""
        return self._terms

    def check(self) -> None:
        """See `Adversary.check`."""
        if self.adversary is not None:
            self.adversary.check()

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The discriminator and its optimizer."""
        return {} if self.adversary is None else self.adversary.state()

    def _loss(self, video: Tensor, reconstruction: Tensor, step: int) -> Tensor:
        scale = self.config.losses.scale(*video.shape[3:])
        nll = absolute = scale * (reconstruction - video).abs().mean()
        terms = {}
        if self.distance is not None:
            perceptual = scale * self.perceptual_weight * video_distance(self.distance, reconstruction, video).mean()
            nll = absolute + perceptual
            terms["nll_per"] = perceptual
        if self.distance is not None or self.adversary is not None:
            terms |= {"nll": nll, "nll_rec": absolute}
        total = nll
        if self.adversary is not None and self.adversary.is_active(step):
            generator = self.adversary.adversarial_loss(reconstruction, step)
            weight = self.adversary.weight(nll, generator, self.last_weight)
            terms |= {"gen": generator, "gen_w": weight}
            total = nll + weight * generator
            self._videos = video, reconstruction.detach()
        self._terms = {name: term.detach() for name, term in terms.items()}
        return total


def train_autoencoder(
    model: VideoDCAE,
    clips: VideoClips,
    config: AutoencoderTrainingConfig,
    workers: ProcessGroup,
    sink: MetricSink,
    resume: Resume | None = None,
) -> TrainingResult:
    """Trains an autoencoder in place to reconstruct clips; see `AutoencoderObjective` for what is made small.

    In a share of the steps all workers see one random frame of each clip instead, so that single images, which
    condition image-to-video generation, have latents as well. Both phases see them: LPIPS works frame by frame, and
    the discriminator judges a single frame with the same weights.

    Args:
        model: initialised.
        clips: all workers have the same.
        config: the loop.
        workers: who takes part.
        sink: gets the metrics.
        resume: where to keep state.

    Raises:
        ValueError: the weights of LPIPS are not given or do not fit, or training diverged.
    """
    objective = AutoencoderObjective(model, clips, config, workers)
    return train(model, objective, config, config.optimizer, workers, sink, resume, objective)


def latent_statistics(model: VideoDCAE, clips: VideoClips, count: int = 256) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over the first `count` clips, for unit variance.

    Returns:
        (means [C], standard deviations [C]), summed in float64 in the order of the clips.
    """
    latents, device = [], last_weight(model).device
    with torch.inference_mode():
        for start in range(0, min(count, len(clips)), 8):
            rows = range(start, min(start + 8, count, len(clips)))
            latents.append(model.encode(to_pixels(clips.batch(rows)).to(device)).double().cpu())
    stacked = torch.cat(latents)
    std, mean = torch.std_mean(stacked, dim=(0, 2, 3, 4), correction=0)
    return mean.tolist(), std.clamp_min(1e-6).tolist()
