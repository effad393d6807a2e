"""One thread, as in a training job; and LPIPS weights of the published names and shapes, filled at random."""

import pytest
import torch

from zoetrope.model.checkpoint import save_weights
from zoetrope.model.training.losses.perceptual import PerceptualDistance


@pytest.fixture(autouse=True)
def one_thread():
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture(scope="session")
def lpips_file(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in PerceptualDistance().state_dict().items():
        values = torch.randn(tensor.shape, generator=generator)
        if name.startswith("lin"):
            state[name] = values.abs()
        else:
            state[name] = values * (2 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1 * values
    return save_weights(state, tmp_path_factory.mktemp("lpips") / "lpips.safetensors")
