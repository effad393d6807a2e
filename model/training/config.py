"""Settings of training loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from zoetrope.model.conditions import TEXT_TO_VIDEO, check_weights

SQRT_TENTH = 0.31622776601683794  # each text embedding dropped with p = sqrt(0.1): both with p = 0.1


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, its schedule and the average of the weights.

    Attributes:
        learning_rate: after the warm-up.
        warmup_steps: linear warm-up from 0.
        decay: `constant`, or `cosine` down to `final_ratio` at the last step.
        final_ratio: last learning rate over the first.
        drops: step -> learning rate from there on (before decay), e.g. {40000: 3e-5}.
        betas: of Adam.
        eps: of Adam (1e-15 in Open-Sora 2.0).
        weight_decay: decoupled.
        clip_norm: gradients are scaled down to this norm.
        ema_decay: of the averaged weights, which are what a stage hands on; 0 keeps the last weights.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    learning_rate: float = 1e-3
    warmup_steps: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    final_ratio: float = 0.0
    drops: dict[int, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-15
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if self.learning_rate <= 0 or any(rate <= 0 for rate in self.drops.values()):
            raise ValueError("learning rates have to be positive")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay has to be in [0, 1), not {self.ema_decay}")


@dataclass(frozen=True)
class LoopConfig:
    """How long a loop runs and how often it looks up.

    Attributes:
        steps: optimizer steps.
        batch_size: samples per step over all workers.
        seed: of the sample order and of all noise.
        save_every: steps between resumable states; 0 saves none.
        log_every: steps between metrics.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 1000
    batch_size: int = 16
    seed: int = 42
    save_every: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if self.steps < 1 or self.batch_size < 1 or self.log_every < 1 or self.save_every < 0:
            raise ValueError("steps, batch_size and log_every have to be at least 1, save_every at least 0")


@dataclass(frozen=True)
class AutoencoderTrainingConfig(LoopConfig):
    """Training of the video autoencoder.

    Attributes:
        optimizer: AdamW and schedule.
        image_probability: share of steps that see single frames (0.2 in Open-Sora 2.0's code).
    """

    steps: int = 600
    batch_size: int = 4
    optimizer: OptimizerConfig = OptimizerConfig()
    image_probability: float = 0.2

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        super().__post_init__()
        if not 0 <= self.image_probability <= 1:
            raise ValueError(f"image_probability has to be in [0, 1], not {self.image_probability}")


@dataclass(frozen=True)
class StageConfig(LoopConfig):
    """One training stage of the video model.

    Attributes:
        bucket: dataset bucket to train on, e.g. `64px_16f`.
        conditions: weight of each kind of condition (`conditions.CONDITIONS`); text to video alone builds the
            model without cond_in. Kinds that give more frames than a bucket has are not drawn there.
        optimizer: AdamW and schedule.
        text_dropout: probability that the T5 embedding becomes the null embedding, and, drawn apart, CLIP's.
        exclude_given_frames: the loss leaves out the latent frames that a condition gives (`no_i2v_ref_loss` of the
            released code, which is off there and has no effect).
        precision: what the model computes in; weights and loss stay in float32.
    """

    bucket: str = "64px_16f"
    conditions: dict[str, float] = field(default_factory=lambda: {TEXT_TO_VIDEO: 1.0})
    optimizer: OptimizerConfig = OptimizerConfig()
    text_dropout: float = SQRT_TENTH
    exclude_given_frames: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        super().__post_init__()
        check_weights(self.conditions)
        if not 0 <= self.text_dropout < 1:
            raise ValueError(f"text_dropout has to be in [0, 1), not {self.text_dropout}")

    @property
    def drawn_conditions(self) -> tuple[str, ...]:
        """Kinds of condition of a weight above 0, sorted."""
        return tuple(sorted(kind for kind, weight in self.conditions.items() if weight > 0))

    @property
    def takes_images(self) -> bool:
        """Whether some samples are given frames."""
        return any(kind != TEXT_TO_VIDEO for kind in self.drawn_conditions)
