"""The averaged weights: their closed form, and the same after an interruption."""

import pytest
import torch
from torch import nn

from zoetrope.model.training.checkpoints import Identity, LocalCheckpointStore
from zoetrope.model.training.config import LoopConfig, OptimizerConfig
from zoetrope.model.training.loop import Resume, StoppedError, TrainingResult, train
from zoetrope.model.training.process_group import ProcessGroup

DECAY = 0.75
STEPS = 6


class Silent:
    def log(self, step, values):
        pass


def model_of_three_weights():
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    return model


def run(decay=DECAY, resume=None) -> tuple[TrainingResult, list[torch.Tensor]]:
    """The result, and the weights after each step (before the first one as well)."""
    model, seen = model_of_three_weights(), []

    class Distance:
        precision, data_world = "float32", 1

        def prepare(self, position, avoided):
            return torch.randn(8, 3, generator=torch.Generator().manual_seed(position))

        def samples(self, inputs):
            return (), None

        def work(self, inputs):
            return 0, 0.0

        def report(self):
            return {}

        def losses(self, of, inputs, step):
            seen.append(of.weight.detach().clone())
            return [lambda: (of(inputs) - 1).square().mean()]

    optimizer = OptimizerConfig(learning_rate=0.1, ema_decay=decay)
    config = LoopConfig(steps=STEPS, batch_size=8, log_every=1, save_every=0)
    result = train(model, Distance(), config, optimizer, ProcessGroup(), Silent(), resume)
    return result, [*seen, model.weight.detach().clone()]


def test_the_average_begins_with_the_first_step_and_keeps_its_decay_of_what_it_was():
    """a_1 = w_1, a_n = decay a_(n-1) + (1 - decay) w_n."""
    result, weights = run()
    expected = weights[1].double()
    for after in weights[2:]:
        expected = DECAY * expected + (1 - DECAY) * after.double()
    torch.testing.assert_close(result.weights["weight"].double(), expected, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(result.weights["weight"], weights[-1], atol=1e-3)


def test_without_a_decay_the_last_weights_are_handed_on():
    result, weights = run(decay=0)
    assert torch.equal(result.weights["weight"], weights[-1])


@pytest.mark.parametrize("done", [1, 4])
def test_an_interrupted_average_goes_on_bit_for_bit(tmp_path, done):
    asked = iter([False] * done + [True])
    with pytest.raises(StoppedError):
        run(resume=Resume(LocalCheckpointStore(tmp_path), Identity({}), stop=lambda: next(asked)))
    resumed, _ = run(resume=Resume(LocalCheckpointStore(tmp_path), Identity({})))
    assert resumed.resumed_at == done
    assert torch.equal(resumed.weights["weight"], run()[0].weights["weight"])
