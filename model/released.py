"""Open-Sora 2.0's released weights from a local folder in the published layout.

Open_Sora_v2.safetensors         or Open_Sora_v2_Video_DC_AE.safetensors
hunyuan_vae.safetensors          or F32T4C128_AE.safetensors
google/t5-v1_1-xxl/              openai/clip-vit-large-patch14/
config.json                      optional: what differs from Open-Sora 2.0 (see `ReleasedConfig`)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.model.checkpoint import make_config
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.text import T5_MAX_TOKENS, TextMode

if TYPE_CHECKING:
    import torch

    from zoetrope.model.video_model import VideoModel

TRANSFORMERS = ("Open_Sora_v2.safetensors", "Open_Sora_v2_Video_DC_AE.safetensors")
AUTOENCODERS = {"hunyuan_vae.safetensors": "hunyuan_video", "F32T4C128_AE.safetensors": "dc_ae"}
T5_FOLDER, CLIP_FOLDER = "google/t5-v1_1-xxl", "openai/clip-vit-large-patch14"

# Released configs: latents are multiplied by 0.476986 (HunyuanVideo) and 1 / 0.493 (DC-AE) before training. The
# released inference config of the DC-AE names no scale; the weights know that of training.
LATENT_STD = {"hunyuan_video": 1 / 0.476986, "dc_ae": 0.493}
FRAMES = {"hunyuan_video": 129, "dc_ae": 128}  # released inference configs
FPS = 24  # released inference configs: what videos are saved at, and what the prompt says
MOTION_SCORE = 4  # default of the released inference; 1 is still, 15 the most that was meant


@dataclass(frozen=True)
class ReleasedConfig:
    """What a folder holds; every key may be absent and is Open-Sora 2.0's then.

    Attributes:
        mmdit: fields of `MMDiTConfig`.
        flow: fields of `FlowConfig`. Default: trained by the released training code, sampled by the shift of the
            released inference code, the time rounded as both round it.
        autoencoder: fields of the autoencoder's configuration.
        latent_mean: mean of the latents that is subtracted before training, one number or one per channel.
        latent_std: their scale, likewise.
        text_mode: `padded` or `ragged`.
        t5_tokens: T5 tokens of a prompt.
        frames: frames of a video by default.
        fps: frames per second.
        resolution: nominal size by default.
        aspect: width to height by default.
    """

    mmdit: Mapping[str, Any] = field(default_factory=dict)
    flow: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: Mapping[str, Any] = field(default_factory=dict)
    latent_mean: float | tuple[float, ...] = 0.0
    latent_std: float | tuple[float, ...] = 0.0
    text_mode: TextMode = "padded"
    t5_tokens: int = T5_MAX_TOKENS
    frames: int = 0
    fps: float = FPS
    resolution: str = "256px"
    aspect: str = "16:9"


@dataclass(frozen=True)
class ReleasedFolder:
    """A folder whose files are all there.

    Attributes:
        folder: the folder.
        transformer: file of the video model.
        autoencoder: file of the autoencoder.
        kind: of the autoencoder.
        config: the folder's settings, complete.
    """

    folder: Path
    transformer: Path
    autoencoder: Path
    kind: str
    config: ReleasedConfig

    @classmethod
    def find(cls, folder: Path) -> ReleasedFolder:
        """Looks into a folder; reads nothing but `config.json`.

        Raises:
            ValueError: a file is missing, the message names what the folder should hold; or a broken config.json.
        """
        transformer = _first(folder, TRANSFORMERS)
        autoencoder = _first(folder, AUTOENCODERS)
        for name in (T5_FOLDER, CLIP_FOLDER):
            if not (folder / name).is_dir():
                raise ValueError(f"{folder}: no folder {name} with a text encoder")
        kind = AUTOENCODERS[autoencoder.name]
        path = folder / "config.json"
        values = _read_json(path) if path.is_file() else {}
        defaults = {"latent_std": LATENT_STD[kind], "frames": FRAMES[kind]}
        try:
            config = make_config(ReleasedConfig, defaults | values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return cls(folder, transformer, autoencoder, kind, config)

    @property
    def mmdit(self) -> MMDiTConfig:
        """Architecture of the video model."""
        if self.config.mmdit:
            return make_config(MMDiTConfig, self.config.mmdit)
        return MMDiTConfig.dc_ae() if self.kind == "dc_ae" else MMDiTConfig.open_sora_v2()

    @property
    def flow(self) -> FlowConfig:
        """The flow."""
        released = {"inference_shift_rule": "released_inference", "time_precision": "released"}
        return make_config(FlowConfig, {**released, **self.config.flow})

    def load(self, device: torch.device | str = "cpu") -> VideoModel:
        """Loads everything: bfloat16 on an accelerator as released, float32 on the CPU.

        Raises:
            ValueError: weights that do not fit or cannot be read.
        """
        import torch

        from zoetrope.model.autoencoders import load_autoencoder
        from zoetrope.model.checkpoint import load_weights
        from zoetrope.model.mmdit.model import MMDiT
        from zoetrope.model.text import load_text_encoders
        from zoetrope.model.video_model import VideoModel

        device = torch.device(device)
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        with torch.device("meta"):
            transformer = MMDiT(self.mmdit)
        transformer = transformer.to(dtype)
        load_weights(transformer, self.transformer, device=device)
        autoencoder = load_autoencoder(self.kind, self.config.autoencoder, self.autoencoder)
        channels = transformer.config.latent_channels
        return VideoModel(
            transformer=transformer.eval().requires_grad_(False),
            flow=self.flow,
            autoencoder=autoencoder.to(device, dtype),
            latent_mean=_per_channel(self.config.latent_mean, channels),
            latent_std=_per_channel(self.config.latent_std, channels),
            text=load_text_encoders(
                self.folder / T5_FOLDER,
                self.folder / CLIP_FOLDER,
                max_tokens=self.config.t5_tokens,
                mode=self.config.text_mode,
                device=device,
                dtype=dtype,
            ),
        )


def prompt_with_suffix(prompt: str, fps: float, motion_score: int) -> str:
    """The prompt as the released inference code completes it: a full stop, ` 24 FPS.` and ` 4 motion score.`."""
    text = prompt.strip()
    return f"{text}{'' if text.endswith('.') else '.'} {fps:g} FPS. {motion_score} motion score."


def _first(folder: Path, names: Iterable[str]) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise ValueError(f"{folder}: none of the files {', '.join(names)} is there")
    return found[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a JSON object ({error})") from error


def _per_channel(value: float | tuple[float, ...], channels: int) -> torch.Tensor:
    import torch

    values = torch.tensor(value).reshape(-1)
    if len(values) not in (1, channels):
        raise ValueError(f"latent statistics of {len(values)} channels, the latent has {channels}")
    return values.expand(channels).reshape(channels, 1, 1, 1).clone()
