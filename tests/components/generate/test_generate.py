from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from zoetrope.components.generate.config import GenerateConfig
from zoetrope.components.generate.prompts import Prompt
from zoetrope.components.generate.step import generate
from zoetrope.components.generate.videos import generate_videos
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.steps.context import StepContext
from zoetrope.infra.store import Store, get_bytes, get_json, put_json
from zoetrope.model.sampler import SamplerConfig

SAMPLER = SamplerConfig(steps=3, text_guidance=3.0, batch_size=2)
CONFIG = GenerateConfig(videos=3, image_videos=1, sampler=SAMPLER, workers=1)


def frames_of(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def changed(store: Store, checkpoint: str, **fields: Any) -> str:
    """The checkpoint with another dataset manifest."""
    manifest = get_json(store, checkpoint)
    dataset = get_json(store, manifest["dataset"]) | fields
    return str(put_json(store, manifest | {"dataset": str(put_json(store, dataset))}))


@pytest.fixture
def product(checkpoint_store: tuple[Store, str], step_context: StepContext) -> dict[str, Any]:
    store, checkpoint = checkpoint_store
    manifest: dict[str, Any] = get_json(store, generate(CONFIG, checkpoint, step_context).product)
    return manifest


def test_held_out_prompts_in_three_groups(product: dict[str, Any], checkpoint_store: tuple[Store, str]) -> None:
    store, checkpoint = checkpoint_store
    assert product["schema"] == "zoetrope.videos.v1" and product["checkpoint"] == checkpoint
    groups = [(v["condition"], v["model"]) for v in product["videos"]]
    assert groups == [("t2v", "trained")] * 3 + [("t2v", "untrained")] * 3 + [("i2v_head", "trained")]
    first, second, third = product["videos"][:3]
    assert first["prompt"] == "a blue circle moving left"
    assert first["attributes"] == {"color": "blue", "direction": "left", "shape": "circle"}
    assert third["prompt"] == first["prompt"] and third["seed"] != first["seed"]
    assert [v["seed"] for v in product["videos"][3:6]] == [first["seed"], second["seed"], third["seed"]]
    assert frames_of(get_bytes(store, first["video"])).shape == (8, 32, 32, 3)
    assert len({v["video"] for v in product["videos"]}) == 7
    sheet = Image.open(io.BytesIO(get_bytes(store, product["contact_sheet"])))
    assert sheet.format == "PNG" and sheet.height > 3 * 96


def test_the_same_input_gives_the_same_product(
    product: dict[str, Any], checkpoint_store: tuple[Store, str], step_context: StepContext
) -> None:
    store, checkpoint = checkpoint_store
    assert get_json(store, generate(CONFIG, checkpoint, step_context).product) == product
    other = generate(CONFIG.model_copy(update={"seed": 5}), checkpoint, step_context)
    assert get_json(store, other.product)["videos"][0]["video"] != product["videos"][0]["video"]


def test_two_workers_draw_the_same_videos(
    product: dict[str, Any], checkpoint_store: tuple[Store, str], step_context: StepContext
) -> None:
    store, checkpoint = checkpoint_store
    result = generate(CONFIG.model_copy(update={"workers": 2}), checkpoint, step_context)
    assert get_json(store, result.product) == product


def test_explicit_prompts_win_and_the_control_group_can_be_left_out(
    checkpoint_store: tuple[Store, str], step_context: StepContext
) -> None:
    store, checkpoint = checkpoint_store
    config = CONFIG.model_copy(
        update={"prompts": ("a unicorn",), "control": "none", "image_videos": 0, "bucket": "16px_4f", "videos": 2}
    )
    videos = get_json(store, generate(config, checkpoint, step_context).product)["videos"]
    assert [(v["prompt"], v["attributes"], v["model"]) for v in videos] == [("a unicorn", {}, "trained")] * 2
    assert frames_of(get_bytes(store, videos[0]["video"])).shape == (4, 16, 16, 3)


def test_without_prompts_the_captions_of_held_out_clips_serve(
    checkpoint_store: tuple[Store, str], step_context: StepContext
) -> None:
    store, checkpoint = checkpoint_store
    own = changed(store, checkpoint, prompts="")
    videos = get_json(store, generate(CONFIG, own, step_context).product)["videos"]
    assert [v["prompt"] for v in videos[:2]] == ["a blue square moving right", "a red square moving down"]
    assert videos[0]["attributes"] == {"color": "blue", "direction": "right", "shape": "square"}


def test_mistakes_are_named(checkpoint_store: tuple[Store, str], step_context: StepContext) -> None:
    store, checkpoint = checkpoint_store
    with pytest.raises(ZoetropeError, match="no bucket '99px'") as error:
        generate(CONFIG.model_copy(update={"bucket": "99px"}), checkpoint, step_context)
    assert "16px_4f, 32px_8f" in error.value.hint
    with pytest.raises(ZoetropeError, match="not a checkpoint"):
        generate(CONFIG, get_json(store, checkpoint)["autoencoder"], step_context)


def test_a_file_with_its_settings(checkpoint_store: tuple[Store, str], tmp_path: Path) -> None:
    store, checkpoint = checkpoint_store
    output = tmp_path / "new" / "out.mp4"
    prompt = Prompt("a blue circle moving left", 7)
    (written,) = generate_videos(checkpoint, store, [prompt], [output], sampler=SAMPLER, frames=4, threads=1)
    assert frames_of(output.read_bytes()).shape == (4, 32, 32, 3)
    settings = json.loads((tmp_path / "new" / "out.json").read_text("utf-8"))
    assert settings == written.settings
    assert (settings["prompt"], settings["seed"], settings["frames"]) == (prompt.text, 7, 4)
    assert settings["checkpoint"] == checkpoint and settings["sampler"]["steps"] == 3
    assert sorted(path.name for path in output.parent.iterdir()) == ["out.json", "out.mp4"]


def test_a_video_begins_with_the_given_image(checkpoint_store: tuple[Store, str], tmp_path: Path) -> None:
    store, checkpoint = checkpoint_store
    means = []
    for name, color in (("dark", (10, 10, 10)), ("bright", (250, 250, 250))):
        image, output = tmp_path / f"{name}.png", tmp_path / f"{name}.mp4"
        Image.new("RGB", (80, 50), color).save(image)
        generate_videos(checkpoint, store, [Prompt("p", 7)], [output], sampler=SAMPLER, image=image, threads=1)
        means.append(frames_of(output.read_bytes())[0].mean())
    assert means[1] > means[0] + 60


def test_files_that_cannot_be_written_or_read_are_refused(checkpoint_store: tuple[Store, str], tmp_path: Path) -> None:
    store, checkpoint = checkpoint_store
    prompt, output = Prompt("p", 1), tmp_path / "out.mp4"
    (tmp_path / "text.png").write_text("no image")
    for prompts, outputs, more, match in (
        ([Prompt(" ", 1)], [output], {}, "prompt is empty"),
        ([prompt], [tmp_path / "out.gif"], {}, "written as MP4"),
        ([prompt], [output], {"frames": 5}, "multiple of 2 frames"),
        ([prompt], [output], {"image": tmp_path / "text.png"}, "not an image"),
    ):
        with pytest.raises(ZoetropeError, match=match):
            generate_videos(checkpoint, store, prompts, outputs, sampler=SAMPLER, threads=1, **more)
    assert not output.exists()
