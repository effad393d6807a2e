"""The game of autoencoder and discriminator: hinge losses, the weight of the game, the discriminator's steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from zoetrope.model.training.config import AdversarialConfig
from zoetrope.model.training.engine import Engine
from zoetrope.model.training.losses.discriminator import PatchDiscriminator
from zoetrope.model.training.optimizer import learning_rate
from zoetrope.model.training.process_group import ProcessGroup, generator_for

NORM_FLOOR = 1e-4  # added to the norm of the generator's gradient (VQGAN, arXiv 2012.09841, and released code)
LARGEST_RATIO = 1e4  # released code


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss: 0 once real patches are above 1 and fake ones below -1; scalar."""
    return 0.5 * ((1 - real).relu().mean() + (1 + fake).relu().mean())


def generator_loss(fake: Tensor) -> Tensor:
    """The autoencoder's side of the game: minus the mean judgement of its reconstructions; scalar."""
    return -fake.mean()


def adaptive_ratio(reconstruction: Tensor, generator: Tensor, last_weight: Tensor, workers: ProcessGroup) -> Tensor:
    """How much stronger reconstruction pulls at the decoder's last weight than the discriminator does.

    The gradients are means over all workers, so that the ratio is that of the whole batch and the same everywhere;
    the released code takes each GPU's own.

    Args:
        reconstruction: reconstruction and perceptual loss, scalar; its graph is kept.
        generator: the generator's loss, scalar; likewise.
        last_weight: weight of the decoder's last convolution.
        workers: who takes part; all have to call this.

    Returns:
        |gradient of reconstruction| / (|gradient of generator| + 1e-4), at most 1e4; scalar without gradient
        (released code, after VQGAN).
    """
    norms = []
    for loss in (reconstruction, generator):
        (gradient,) = torch.autograd.grad(loss, last_weight, retain_graph=True)
        norms.append(torch.linalg.vector_norm(workers.mean(gradient)))
    ratio: Tensor = norms[0] / (norms[1] + NORM_FLOOR)
    return ratio.clamp(max=LARGEST_RATIO)


class Adversary:
    """The discriminator with its optimizer.

    Gradients are means over the workers; batch statistics are each worker's own, as in the released code, real and
    fake videos apart. Dropout draws from (seed, step, rank), so that a resumed run draws what the first would have.
    """

    def __init__(
        self, config: AdversarialConfig, steps: int, seed: int, workers: ProcessGroup, device: torch.device
    ) -> None:
        """A new discriminator, the same on all workers.

        Args:
            config: of the game.
            steps: of the whole loop, for the schedule of the learning rate.
            seed: of weights and dropout.
            workers: who takes part.
            device: where the videos are.
        """
        self.config, self.steps, self.seed, self.workers, self.device = config, steps, seed, workers, device
        discriminator = PatchDiscriminator(config.channels, config.layers, config.dropout).initialise(seed)
        self.discriminator = discriminator.to(device)
        self.engine = Engine(self.discriminator, config.optimizer, workers)
        self.engine.begin()
        self._skips: list[Tensor] = []

    def is_active(self, step: int) -> bool:
        """Whether the game is on in `step` (from 0)."""
        return step >= self.config.start

    def adversarial_loss(self, reconstruction: Tensor, step: int) -> Tensor:
        """The generator's loss, scalar; its gradient goes to `reconstruction` alone."""
        self.discriminator.requires_grad_(False)
        with self._dropout(step, 1):
            loss = generator_loss(self.discriminator(reconstruction).float())
        self.discriminator.requires_grad_(True)
        return loss

    def weight(self, reconstruction: Tensor, generator: Tensor, last_weight: Tensor) -> Tensor:
        """Weight of the generator's loss beside that of the reconstruction; see `adaptive_ratio`; scalar."""
        if not self.config.adaptive:
            return torch.tensor(self.config.weight, device=self.device)
        return self.config.weight * adaptive_ratio(reconstruction, generator, last_weight, self.workers)

    def train_step(self, real: Tensor, fake: Tensor, step: int) -> Tensor:
        """One step of the discriminator.

        Args:
            real: [B, 3, T, H, W].
            fake: likewise, without gradient.
            step: from 0.

        Returns:
            Its loss before the step, detached scalar. A step whose gradient is not finite is not taken (see `check`).
        """
        rate = learning_rate(self.config.optimizer, step, self.steps)
        with self._dropout(step, 2):
            loss = self.engine.backward([lambda: self._loss(real, fake)])
        skip = (~self.engine.clip().isfinite()).float()
        self.engine.update(rate, skip)
        self._skips.append(skip)
        return loss

    def check(self) -> None:
        """Looks at the steps since the last time.

        Raises:
            ValueError: none of them was taken.
        """
        skips, self._skips = self._skips, []
        if skips and bool(torch.stack(skips).all()):
            raise ValueError(
                f"training of the discriminator: the gradient was not finite in {len(skips)} steps in a row; lower "
                "its learning rate"
            )

    def _loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return hinge_loss(self.discriminator(real).float(), self.discriminator(fake).float())

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Live tensors: weights and optimizer."""
        optimizer = {
            f"{name}.{kind}": tensor
            for name, parameter in self.discriminator.named_parameters()
            for kind, tensor in self.engine.optimizer.state[parameter].items()
        }
        return {"discriminator": dict(self.discriminator.state_dict()), "discriminator_optimizer": optimizer}

    @contextmanager
    def _dropout(self, step: int, use: int) -> Iterator[None]:
        """Dropout draws from PyTorch's own state: here from a seed of this step, which leaves no trace."""
        # places beyond the ranks: the ranks' own numbers are drawn from by other parts of the step
        seed = generator_for(self.seed, step, use * self.workers.world + self.workers.rank).initial_seed()
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
