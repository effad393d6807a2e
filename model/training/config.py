"""Settings of training loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from zoetrope.model.conditions import TEXT_TO_VIDEO, check_weights
from zoetrope.model.parallel.config import ParallelConfig
from zoetrope.model.training.retention import Retention

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
class GuardConfig:
    """When a step, a clip and a stretch of training count as broken.

    Attributes:
        spike: a step is skipped where its gradient norm is above so many times the median of the last ones; 0 skips
            only what is not finite.
        history: norms of which the median is taken.
        warm: norms that have to be known before one counts as a spike; the first steps differ by much.
        repeats: skipped steps after which a clip that was in all of them is replaced by its neighbour.
        skips: skipped steps among the last `window` after which training goes back.
        window: in steps.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    spike: float = 10.0
    history: int = 64
    warm: int = 16
    repeats: int = 2
    skips: int = 5
    window: int = 50

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if self.spike and self.spike <= 1:
            raise ValueError(f"spike has to be above 1, or 0 for no limit, not {self.spike}")
        if not 1 <= self.warm <= self.history:
            raise ValueError(f"warm has to be from 1 to history ({self.history}), not {self.warm}")
        if self.repeats < 1 or not 1 <= self.skips <= self.window:
            raise ValueError("repeats has to be at least 1, skips from 1 to window")


@dataclass(frozen=True)
class LoopConfig:
    """How long a loop runs and how often it looks up.

    Attributes:
        steps: optimizer steps.
        batch_size: samples per step over all workers.
        seed: of the sample order and of all noise.
        save_every: steps between resumable states; 0 saves none.
        log_every: steps between metrics.
        deterministic: only kernels that give the same bits each time, so that equal runs give equal weights; costs
            speed on GPUs.
        prefetch: steps whose samples are read and drawn ahead.
        retention: which checkpoints stay.
        guards: when a step is skipped, a sample left out, and training goes back.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 1000
    batch_size: int = 16
    seed: int = 42
    save_every: int = 0
    log_every: int = 10
    deterministic: bool = True
    prefetch: int = 2
    retention: Retention = field(default_factory=Retention)
    guards: GuardConfig = field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if min(self.steps, self.batch_size, self.log_every, self.prefetch) < 1 or self.save_every < 0:
            raise ValueError("steps, batch_size, log_every and prefetch have to be at least 1, save_every at least 0")


@dataclass(frozen=True)
class PerceptualConfig:
    """The perceptual part of the autoencoder's loss: LPIPS on VGG16, version 0.1.

    Attributes:
        weights: safetensors file with the weights of VGG16 and LPIPS (model/README.md tells how to make it); empty
            until it is given, which training refuses.
        weight: of LPIPS beside the absolute error (0.5: Open-Sora 2.0, paper section 4.4).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    weights: str = ""
    weight: float = 0.5

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if self.weight <= 0:
            raise ValueError(f"weight has to be positive, not {self.weight}; to leave LPIPS out say `perceptual: none`")


@dataclass(frozen=True)
class AdversarialConfig:
    """The adversarial part of the autoencoder's loss: a discriminator that learns beside the autoencoder.

    Attributes:
        weight: of the generator's loss (0.05: Open-Sora 2.0, paper section 4.4).
        adaptive: multiplies `weight` by the ratio of gradient norms of `losses.adversarial.adaptive_ratio`, as the
            released code does; without it `weight` is fixed, as the paper words it.
        start: first step, counted from 0, with a discriminator; before it neither side of the game is played
            (250,000 in the paper, 0 in the released code).
        channels: of the discriminator's first convolution (64 in the released code).
        layers: strided convolutions of the discriminator (5 in the released code).
        dropout: of the discriminator (0.3 in the released code).
        optimizer: of the discriminator (learning rate 1e-4 in the released code).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    weight: float = 0.05
    adaptive: bool = True
    start: int = 0
    channels: int = 64
    layers: int = 5
    dropout: float = 0.3
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4)

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if self.weight <= 0:
            raise ValueError(
                f"weight has to be positive, not {self.weight}; to train without a discriminator say "
                "`adversarial: none`"
            )
        if self.start < 0 or self.channels < 1 or self.layers < 1:
            raise ValueError("start has to be at least 0, channels and layers have to be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout has to be in [0, 1), not {self.dropout}")
        if self.optimizer.ema_decay:
            raise ValueError("optimizer.ema_decay has to be 0: a discriminator's average is used nowhere")


@dataclass(frozen=True)
class LossesConfig:
    """What the autoencoder is trained to make small.

    Attributes:
        reconstruction: `mean` takes the absolute error as a mean over all values, `frame_sum` as the released code
            does: summed over the 3 x height x width values of a frame, mean over frames, with LPIPS added to each
            value. So `frame_sum` is 3 x height x width times `mean`, LPIPS included.
        perceptual: LPIPS, or `none`.
        adversarial: the discriminator, or `none`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    reconstruction: Literal["mean", "frame_sum"] = "mean"
    perceptual: PerceptualConfig | Literal["none"] = "none"
    adversarial: AdversarialConfig | Literal["none"] = "none"

    def scale(self, height: int, width: int) -> int:
        """What a mean over the values of frames [3, height, width] is multiplied by."""
        return 3 * height * width if self.reconstruction == "frame_sum" else 1


@dataclass(frozen=True)
class AutoencoderTrainingConfig(LoopConfig):
    """Training of the video autoencoder.

    Attributes:
        optimizer: AdamW and schedule.
        losses: what is made small, in which phase.
        image_probability: share of steps that see single frames (0.2 in Open-Sora 2.0's code).
        precision: what the networks compute in; weights, errors and sums stay in float32.
    """

    steps: int = 600
    batch_size: int = 4
    optimizer: OptimizerConfig = OptimizerConfig()
    losses: LossesConfig = LossesConfig()
    image_probability: float = 0.2
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        super().__post_init__()
        if not 0 <= self.image_probability <= 1:
            raise ValueError(f"image_probability has to be in [0, 1], not {self.image_probability}")
        adversarial = self.losses.adversarial
        if isinstance(adversarial, AdversarialConfig) and adversarial.start >= self.steps:
            raise ValueError(
                f"losses.adversarial.start has to be below steps ({self.steps}), not {adversarial.start}; to train "
                f"without a discriminator say `adversarial: none`"
            )


@dataclass(frozen=True)
class StageConfig(LoopConfig):
    """One training stage of the video model.

    Attributes:
        bucket: dataset bucket to train on, e.g. `64px_16f`.
        conditions: weight of each kind of condition (`conditions.CONDITIONS`); text to video alone builds the
            model without cond_in. Kinds that give more frames than a bucket has are not drawn there.
        optimizer: AdamW and schedule.
        text_dropout: probability that the T5 embedding becomes the null embedding, and, drawn apart, CLIP's.
        exclude_given_frames: the loss leaves out the latent frames that a condition gives, and is the mean of the
            others within each sample and then over the `samples`, as the released code words it (`no_i2v_ref_loss`,
            which is off there and has no effect), or over all `elements` at once, where samples with more frames
            left weigh more.
        precision: what the model computes in; weights and loss stay in float32.
        attention: kernel of `attention.choice.BACKENDS`, or `auto`; what served is recorded with the checkpoint.
        parallel: how the stage is spread over its processes. By default each has all weights and its own samples.
    """

    bucket: str = "64px_16f"
    conditions: dict[str, float] = field(default_factory=lambda: {TEXT_TO_VIDEO: 1.0})
    optimizer: OptimizerConfig = OptimizerConfig()
    text_dropout: float = SQRT_TENTH
    exclude_given_frames: Literal[False, "samples", "elements"] = False
    precision: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "flash_3", "flash_4", "flash_2", "sdpa"] = "auto"
    parallel: ParallelConfig = field(default_factory=lambda: ParallelConfig(shard=1))

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        super().__post_init__()
        check_weights(self.conditions)
        if self.exclude_given_frames not in (False, "samples", "elements"):
            raise ValueError(
                f"exclude_given_frames has to be false, samples or elements, not {self.exclude_given_frames!r}"
            )
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
