"""Sampling: guidance, seeds, given frames."""

from types import SimpleNamespace

import pytest
import torch

from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import patchify
from zoetrope.model.sampler import ImageCondition, SamplerConfig, TextCondition, sample_latents

SHAPE = (2, 3, 4, 4)
CONFIG = MMDiTConfig(
    in_channels=8, vec_in_dim=4, context_in_dim=4, hidden_size=24, num_heads=2, depth=1, depth_single_blocks=1,
    axes_dim=(4, 4, 4), mlp_ratio=1,
)  # fmt: skip


def text(count):
    generator = torch.Generator().manual_seed(1)
    t5 = [torch.randn(2 + index % 3, 4, generator=generator) for index in range(count)]
    return TextCondition(t5, torch.ones(count, 4), torch.zeros(1, 4), torch.zeros(4))


def images(kinds):
    return ImageCondition(kinds, torch.full((len(kinds), 2, 1, 4, 4), 3.0), torch.full((len(kinds), 2, 1, 4, 4), 5.0))


class KnownVelocity:
    """Predicts `text` where the text is given plus `image` where frames are given: guidance can be added up."""

    def __init__(self, text=1.0, image=10.0):
        self.config, self.text, self.image = CONFIG, text, image
        self.img_in = SimpleNamespace(weight=torch.zeros(1))
        self.calls = []

    def __call__(self, img, img_ids, txt, txt_ids, timesteps, y_vec, *, cond, txt_len):
        self.calls.append((len(img), timesteps[0].item()))
        given = self.text * y_vec[:, 0] + self.image * cond.any(2).any(1)
        return torch.zeros_like(img) + given[:, None, None]


def random_model():
    model = MMDiT(CONFIG).initialise(0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def moved(config, image=None):
    """How far the sample went from the noise, per latent frame."""
    end = sample_latents(KnownVelocity(), config, FlowConfig(), text(1), SHAPE, [7], image=image)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    return (noise - end[0])[0, :, 0, 0].tolist()


def test_text_guidance_adds_up_over_the_whole_flow():
    config = SamplerConfig(steps=5, text_guidance=4, oscillation=False)
    assert moved(config) == pytest.approx([4, 4, 4], abs=1e-4)


def test_without_guidance_there_is_one_forward_a_step():
    model = KnownVelocity()
    sample_latents(model, SamplerConfig(steps=3, text_guidance=1), FlowConfig(), text(1), SHAPE, [0])
    assert [count for count, _ in model.calls] == [1, 1, 1]
    assert model.calls[0][1] == 1


def test_image_guidance_weighs_what_the_image_adds():
    config = SamplerConfig(
        steps=5, text_guidance=4, image_guidance=3, oscillation=False, dynamic_image_guidance=False,
        overwrite_given_frames=False,
    )  # fmt: skip
    assert moved(config, images(["i2v_head"])) == pytest.approx([34, 34, 34], abs=1e-3)
    assert moved(config, images(["t2v"])) == pytest.approx([4, 4, 4], abs=1e-3)


def test_dynamic_image_guidance_grows_along_the_frames():
    config = SamplerConfig(
        steps=5, text_guidance=4, image_guidance=3, oscillation=False, overwrite_given_frames=False, shift=1.0
    )
    # last frame: mean over steps of linspace(3, 1, 6)[:5] = 2.2
    assert moved(config, images(["i2v_head"])) == pytest.approx([14, 20, 26], abs=1e-3)


def test_oscillation_quiets_odd_steps_after_its_start():
    config = SamplerConfig(text_guidance=7, image_guidance=3, oscillation_start=2)
    assert [config.guidance(index) for index in (0, 1, 2, 3, 4)] == [(7, 3), (7, 3), (7, 3), (1, 1), (7, 3)]
    paper = SamplerConfig(text_guidance=7, image_guidance=3, oscillation_start=2, oscillation_text=False)
    assert paper.guidance(3) == (7, 1)


def test_given_frames_are_in_the_result():
    model, kinds = random_model(), ["i2v_head", "i2v_loop", "t2v"]
    out = sample_latents(model, SamplerConfig(steps=2), FlowConfig(), text(3), SHAPE, [1, 2, 3], image=images(kinds))
    assert (out[:2, :, 0] == 3).all()
    assert (out[1, :, -1] == 5).all()
    assert not (out[0, :, -1] == 5).any()
    assert not (out[2, :, 0] == 3).any()


def test_a_video_depends_on_its_seed_and_not_on_its_batch():
    model, seeds = random_model(), [4, 5, 6, 5]
    prompts = text(4)
    prompts = TextCondition([*prompts.t5[:3], prompts.t5[1]], prompts.clip, prompts.null_t5, prompts.null_clip)
    one, three = (
        sample_latents(model, SamplerConfig(steps=3, batch_size=size), FlowConfig(), prompts, SHAPE, seeds)
        for size in (1, 3)
    )
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one[1], one[3])
    assert not torch.allclose(one[0], one[1], atol=0.1)


def test_progress_counts_videos():
    done = []
    config = SamplerConfig(steps=1, batch_size=2)
    sample_latents(KnownVelocity(), config, FlowConfig(), text(5), SHAPE, range(5), on_batch=done.append)
    assert done == [2, 4, 5]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="2 prompts need 2 seeds"):
        sample_latents(KnownVelocity(), SamplerConfig(), FlowConfig(), text(2), SHAPE, [1])
    model = KnownVelocity()
    model.config = MMDiTConfig.nano(cond_embed=False)
    with pytest.raises(ValueError, match="takes no images"):
        sample_latents(model, SamplerConfig(), FlowConfig(), text(1), SHAPE, [1], image=images(["i2v_head"]))
    with pytest.raises(ValueError, match="at least 1"):
        SamplerConfig(steps=0)


def test_the_condition_that_the_model_sees_is_packed_like_the_latents():
    seen = []

    class Recording(KnownVelocity):
        def __call__(self, img, *args, cond, **kwargs):
            seen.append(cond)
            return super().__call__(img, *args, cond=cond, **kwargs)

    sample_latents(Recording(), SamplerConfig(steps=1), FlowConfig(), text(1), SHAPE, [0], image=images(["i2v_tail"]))
    expected = torch.zeros(1, 3, 3, 4, 4)
    expected[:, 0, -1], expected[:, 1:, -1] = 1, 5
    both, image_only, neither = seen[0]
    assert torch.equal(both, patchify(expected, 2)[0])
    assert torch.equal(image_only, both)
    assert not neither.any()
