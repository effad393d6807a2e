"""`zoetrope generate` on a folder of weights in the released layout, of tiny size."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import av
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from zoetrope.infra.errors import ZoetropeError
from zoetrope.model.autoencoders import DCAEConfig
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.checkpoint import save_weights
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.released import ReleasedFolder, prompt_with_suffix
from zoetrope.model.text import TinyTextConfig, build_tiny_text_encoders
from zoetrope.pipelines.cli.main import app
from zoetrope.pipelines.cli.steps_bar import StepsBar

MMDIT = MMDiTConfig(
    in_channels=4, vec_in_dim=16, context_in_dim=16, hidden_size=24, num_heads=2, depth=1, depth_single_blocks=1,
    axes_dim=(4, 4, 4), patch_size=1,
)  # fmt: skip
AUTOENCODER = DCAEConfig(
    latent_channels=4,
    widths=(8, 8, 8),
    encoder_depths=(0, 1, 1),
    decoder_depths=(0, 1, 1),
    blocks=("ResBlock",) * 3,
    temporal=(True, False),
)
CONFIG = {
    "mmdit": asdict(MMDIT),
    "autoencoder": asdict(AUTOENCODER),
    "t5_tokens": 20,
    "frames": 8,
    "resolution": "32px",
    "aspect": "1:1",
}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    model, generator = MMDiT(MMDIT).initialise(0), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    save_weights(model, folder / "Open_Sora_v2_Video_DC_AE.safetensors")
    save_weights(VideoDCAE(AUTOENCODER).initialise(0), folder / "F32T4C128_AE.safetensors")
    captions = ["a red circle moving left . 24 FPS 4 9 motion score", "a blue square"]
    t5, clip = build_tiny_text_encoders(folder / "text", captions, 3, TinyTextConfig(width=16, heads=2))
    for source, name in ((t5, "google/t5-v1_1-xxl"), (clip, "openai/clip-vit-large-patch14")):
        (folder / name).parent.mkdir()
        source.rename(folder / name)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def run(folder: Path, out: Path, *arguments: str) -> tuple[str, str]:
    """(stdout, stderr) of the command; raises what it raises."""
    base = ["generate", "--checkpoint", str(folder), "--prompt", "a red circle", "--steps", "20", "--device", "cpu"]
    result = CliRunner().invoke(app, [*base, "--out", str(out), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def shape_of(path: Path) -> tuple[int, int, int, float]:
    """(frames, height, width, frames per second) of an MP4."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sum(1 for _ in container.decode(stream)), stream.height, stream.width, float(stream.average_rate)


def test_a_folder_of_released_weights_makes_a_video(released: Path, tmp_path: Path) -> None:
    out = tmp_path / "video.mp4"
    run(released, out, "--text-guidance", "5", "--image-guidance", "2", "--negative-prompt", "a blue square")
    assert shape_of(out) == (8, 32, 32, 24)
    settings = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert settings["prompt_as_read"] == "a red circle. 24 FPS. 4 motion score."
    assert (settings["text_mode"], settings["fps"], settings["negative_prompt"]) == ("padded", 24, "a blue square")
    assert settings["flow"]["inference_shift_rule"] == "released_inference"
    assert settings["flow"]["time_precision"] == "released"
    sampler = settings["sampler"]
    assert (sampler["steps"], sampler["text_guidance"], sampler["image_guidance"]) == (20, 5, 2)


def test_size_motion_and_first_frame_can_be_chosen(released: Path, tmp_path: Path) -> None:
    out = tmp_path / "video.mp4"
    arguments = ["--resolution", "64px", "--aspect", "16:9", "--frames", "4", "--motion-score", "9"]
    run(released, out, *arguments, "--image-checkpoint", str(released))
    assert shape_of(out) == (4, 48, 84, 24)
    settings = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert settings["prompt_as_read"] == "a red circle. 24 FPS. 9 motion score."
    assert (settings["condition"], settings["image_checkpoint"]) == ("i2v_head", str(released))


def test_progress_is_lines_where_there_is_no_terminal() -> None:
    plain, live = io.StringIO(), io.StringIO()
    for stream, terminal in ((plain, False), (live, True)):
        with StepsBar(Console(file=stream, force_terminal=terminal, width=100)) as bar:
            for step in range(1, 51):
                bar.show("video", step, 50)
    assert plain.getvalue().splitlines() == [f"video: step {step} of 50" for step in range(5, 51, 5)]
    assert "50/50" in live.getvalue() and "\x1b[" in live.getvalue()


@pytest.mark.parametrize(
    ("prompt", "read"),
    [("a cat", "a cat. 24 FPS. 4 motion score."), ("a cat. ", "a cat. 24 FPS. 4 motion score.")],
)
def test_the_prompt_is_completed_as_the_released_code_does(prompt: str, read: str) -> None:
    assert prompt_with_suffix(prompt, 24, 4) == read


def test_an_empty_config_means_open_sora_2(released: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(released, tmp_path / "copy")
    (folder / "config.json").unlink()
    found = ReleasedFolder.find(folder)
    assert (found.kind, found.mmdit, found.config.frames) == ("dc_ae", MMDiTConfig.dc_ae(), 128)
    assert (found.config.latent_std, found.config.text_mode, found.config.t5_tokens) == (0.493, "padded", 512)
    (folder / "F32T4C128_AE.safetensors").rename(folder / "hunyuan_vae.safetensors")
    (folder / "Open_Sora_v2_Video_DC_AE.safetensors").rename(folder / "Open_Sora_v2.safetensors")
    found = ReleasedFolder.find(folder)
    assert (found.kind, found.mmdit, found.config.frames) == ("hunyuan_video", MMDiTConfig.open_sora_v2(), 129)
    assert found.config.latent_std == pytest.approx(1 / 0.476986)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "Open_Sora_v2_Video_DC_AE.safetensors").unlink(), "none of the files Open_Sora_v2.safetensors"),
        (lambda f: (f / "F32T4C128_AE.safetensors").unlink(), "none of the files hunyuan_vae.safetensors"),
        (lambda f: shutil.rmtree(f / "google"), "no folder google/t5-v1_1-xxl"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not a JSON object"),
        (lambda f: (f / "config.json").write_text('{"frame": 3}'), "no field 'frame'; did you mean 'frames'"),
        (lambda f: (f / "config.json").write_text(json.dumps(CONFIG | {"latent_std": [1.0, 2.0]})), "of 2 channels"),
        (
            lambda f: (f / "config.json").write_text(json.dumps(CONFIG | {"mmdit": asdict(MMDIT) | {"depth": 2}})),
            "does not fit the model: weights",
        ),
        (
            lambda f: torch.save({"a": torch.zeros(1)}, f / "Open_Sora_v2_Video_DC_AE.safetensors"),
            "pickled checkpoint",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_one_message(released: Path, tmp_path: Path, damage, message: str) -> None:
    folder = shutil.copytree(released, tmp_path / "copy")
    damage(folder)
    with pytest.raises(ZoetropeError, match=message):
        run(folder, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_mistakes_on_the_command_line_are_named(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ZoetropeError, match="neither a folder that is there nor a checkpoint"):
        run(tmp_path / "nowhere", tmp_path / "out.mp4")
    with pytest.raises(ZoetropeError, match="multiple of 2 frames"):
        run(released, tmp_path / "out.mp4", "--frames", "5")
    with pytest.raises(ZoetropeError, match="--device tpu: unknown"):
        run(released, tmp_path / "out.mp4", "--device", "tpu")
    with pytest.raises(ZoetropeError, match="written as MP4"):
        run(released, tmp_path / "out.gif")
