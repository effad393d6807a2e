from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from zoetrope.components.generate.command.given import GivenFiles
from zoetrope.components.generate.command.opening import OpenedModel, open_reference
from zoetrope.components.generate.command.videos import VideoRequest, generate_videos
from zoetrope.components.generate.config import GenerateConfig
from zoetrope.components.generate.prompts import Prompt
from zoetrope.components.generate.step import generate
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_bytes, get_json, put_json
from zoetrope.model.sampling import SamplerConfig
from zoetrope.model.sampling.image_first import first_frames
from zoetrope.model.video import write_video

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


@pytest.fixture
def opened(checkpoint_store: tuple[Store, str], tmp_path: Path) -> OpenedModel:
    store, checkpoint = checkpoint_store
    return open_reference(checkpoint, store, tmp_path / "opened", "cpu")


def request(**changes: Any) -> VideoRequest:
    return VideoRequest(**{"sampler": SAMPLER, "threads": 1, **changes})


def video(opened: OpenedModel, path: Path, prompt: str = "p", *, seed: int = 7, **changes: Any) -> np.ndarray:
    image_model = changes.pop("image_model", None)
    generate_videos(opened, [Prompt(prompt, seed)], [path], request(**changes), image_model=image_model)
    return frames_of(path.read_bytes())


def picture(path: Path, color: tuple[int, int, int]) -> Path:
    Image.new("RGB", (80, 50), color).save(path)
    return path


def test_a_file_with_its_settings(opened: OpenedModel, tmp_path: Path) -> None:
    output = tmp_path / "new" / "out.mp4"
    prompt, told = Prompt("a blue circle moving left", 7), []
    (written,) = generate_videos(
        opened, [prompt], [output], request(frames=4, negative_prompt="red"), on_step=lambda *step: told.append(step)
    )
    assert frames_of(output.read_bytes()).shape == (4, 32, 32, 3)
    settings = json.loads((tmp_path / "new" / "out.json").read_text("utf-8"))
    assert settings == written.settings
    assert (settings["prompt"], settings["seed"], settings["frames"]) == (prompt.text, 7, 4)
    assert settings["checkpoint"] == opened.name and settings["sampler"]["steps"] == 3
    assert (settings["negative_prompt"], settings["condition"], settings["device"]) == ("red", "t2v", "cpu")
    assert settings["flow"]["velocity"] == "released" and settings["time_shift"] > 0
    assert sorted(path.name for path in output.parent.iterdir()) == ["out.json", "out.mp4"]
    assert told == [("video", 1, 3), ("video", 2, 3), ("video", 3, 3)]


def test_sizes_are_free_within_the_grid(opened: OpenedModel, tmp_path: Path) -> None:
    assert video(opened, tmp_path / "a.mp4", resolution="64px", aspect="16:9", frames=4).shape == (4, 48, 80, 3)
    assert video(opened, tmp_path / "d.mp4", frames=1).shape == (1, 32, 32, 3)
    assert video(opened, tmp_path / "b.mp4", aspect="9:16").shape == (8, 40, 24, 3)
    assert video(opened, tmp_path / "c.mp4", resolution="24px").shape == (8, 24, 24, 3)


def test_a_negative_prompt_changes_the_video(opened: OpenedModel, tmp_path: Path) -> None:
    plain = video(opened, tmp_path / "a.mp4")
    assert np.array_equal(plain, video(opened, tmp_path / "b.mp4"))
    assert not np.array_equal(plain, video(opened, tmp_path / "c.mp4", negative_prompt="a red square moving down"))


def test_a_video_begins_and_ends_with_the_given_images(opened: OpenedModel, tmp_path: Path) -> None:
    dark, bright = picture(tmp_path / "dark.png", (10, 10, 10)), picture(tmp_path / "bright.png", (250, 250, 250))
    ends = {}
    for name, given in {
        "dark": GivenFiles(image=dark),
        "bright": GivenFiles(image=bright),
        "last": GivenFiles(last_image=bright),
        "loop": GivenFiles(image=dark, last_image=bright),
    }.items():
        frames = video(opened, tmp_path / f"{name}.mp4", given=given)
        ends[name] = frames[0].mean(), frames[-1].mean()
    settings = json.loads((tmp_path / "loop.json").read_text("utf-8"))
    assert settings["condition"] == "i2v_loop" and settings["last_image"]["name"] == "bright.png"
    assert ends["bright"][0] > ends["dark"][0] + 60
    assert ends["last"][1] > ends["dark"][1] + 60
    assert ends["loop"][0] == pytest.approx(ends["dark"][0], abs=15)
    assert ends["loop"][1] == pytest.approx(ends["last"][1], abs=15)


def test_a_video_goes_on_from_the_end_of_another(opened: OpenedModel, tmp_path: Path) -> None:
    """The given video turns bright in its last 32 frames; those begin the new one."""
    levels = np.repeat(np.array([10] * 8 + [240] * 32, np.uint8), 32 * 32 * 3).reshape(40, 32, 32, 3)
    write_video(tmp_path / "given.mp4", levels, 8)
    write_video(tmp_path / "dark.mp4", levels[:8].repeat(5, axis=0), 8)
    found = {}
    for name in ("given", "dark"):
        given = GivenFiles(video=tmp_path / f"{name}.mp4")
        found[name] = video(opened, tmp_path / f"{name}-out.mp4", frames=36, given=given)
    assert found["given"].shape == (36, 32, 32, 3)
    assert json.loads((tmp_path / "given-out.json").read_text("utf-8"))["condition"] == "v2v_head"
    assert (found["given"][:32].mean(axis=(1, 2, 3)) > found["dark"][:32].mean(axis=(1, 2, 3)) + 60).all()


def test_the_first_frame_can_be_drawn_from_the_text(opened: OpenedModel, tmp_path: Path) -> None:
    """The image model's picture is the first frame that image to video would be given."""
    text = opened.model.embed(["p"])
    drawn = first_frames(opened.model, SAMPLER, text, 32, 32, [7])
    assert drawn.shape == (1, 1, 32, 32, 3)
    Image.fromarray(drawn[0, 0]).save(tmp_path / "first.png")
    expected = video(opened, tmp_path / "a.mp4", given=GivenFiles(image=tmp_path / "first.png"))
    two_stages = video(opened, tmp_path / "b.mp4", image_model=opened)
    assert np.array_equal(two_stages, expected)
    settings = json.loads((tmp_path / "b.json").read_text("utf-8"))
    assert (settings["condition"], settings["image_checkpoint"]) == ("i2v_head", opened.name)
    # another size than the image model's grid of 8: drawn smaller and scaled
    assert first_frames(opened.model, SAMPLER, text, 36, 44, [7]).shape == (1, 1, 36, 44, 3)


def test_files_that_cannot_be_written_or_read_are_refused(opened: OpenedModel, tmp_path: Path) -> None:
    prompt, output = Prompt("p", 1), tmp_path / "out.mp4"
    (tmp_path / "text.png").write_text("no image")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes(200))
    short = write_video(tmp_path / "short.mp4", np.zeros((8, 32, 32, 3), np.uint8), 8)
    for prompts, outputs, more, match in (
        ([Prompt(" ", 1)], [output], {}, "prompt is empty"),
        ([prompt], [tmp_path / "out.gif"], {}, "written as MP4"),
        ([prompt], [output], {"frames": 5}, "multiple of 2 frames"),
        ([prompt], [output], {"frames": 2}, "2 frames make one latent frame"),
        ([prompt], [output], {"resolution": "big"}, "has to look like 256px"),
        ([prompt], [output], {"aspect": "wide"}, "WIDTH:HEIGHT"),
        ([prompt], [output], {"resolution": "4px"}, "less than one step of 8 pixels"),
        ([prompt], [output], {"motion_score": 5}, "belongs to released weights"),
        ([prompt], [output], {"given": GivenFiles(image=tmp_path / "text.png")}, "not an image"),
        ([prompt], [output], {"given": GivenFiles(image=tmp_path / "x.png", video=short)}, "a video and a picture"),
        ([prompt], [output], {"given": GivenFiles(video=short), "frames": 32}, "nothing is left to make"),
        ([prompt], [output], {"given": GivenFiles(video=short), "frames": 36}, "32 frames at 8 a second do not fit"),
        ([prompt], [output], {"given": GivenFiles(video=broken), "frames": 36}, "cannot be read"),
    ):
        with pytest.raises(ZoetropeError, match=match):
            generate_videos(opened, prompts, outputs, request(**more))
    with pytest.raises(ZoetropeError, match="shall be drawn by an image checkpoint"):
        generate_videos(opened, [prompt], [output], request(given=GivenFiles(video=short)), image_model=opened)
    assert not output.exists()
