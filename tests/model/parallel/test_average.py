"""The average of weights, against PyTorch's."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoetrope.model.parallel.average import ShardedAverage


def test_it_is_bitwise_pytorchs_average():
    model = torch.nn.Linear(5, 3)
    theirs, ours = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)), ShardedAverage(model, 0.9)
    for _ in range(4):
        with torch.no_grad():
            model.weight.add_(torch.randn(3, 5))
        theirs.update_parameters(model)
        ours.update(model)
    for name, weight in theirs.module.named_parameters():
        assert torch.equal(ours.weights[name], weight)
    assert int(theirs.n_averaged) == ours.updates


def test_a_state_of_another_model_is_refused():
    with pytest.raises(ValueError, match="of another model"):
        ShardedAverage(torch.nn.Linear(5, 3), 0.9).load_state_dict({"weight": torch.ones(3, 5)})
