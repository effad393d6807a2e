"""Run by torchrun in two processes: a model on the meta device, sharded, takes its parts straight from the file."""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed import destroy_process_group, get_rank, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from zoetrope.model.checkpoint import load_weights, read_weights
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT


def main(path: Path) -> None:
    init_process_group("gloo")
    with torch.device("meta"):
        model = MMDiT(MMDiTConfig.nano())
    mesh = init_device_mesh("cpu", (2,))
    blocks = [*model.double_blocks, *model.single_blocks]
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh)
    load_weights(model, path)
    wanted = read_weights(path)
    for name, parameter in model.named_parameters():
        assert parameter.to_local().numel() < parameter.numel(), f"{name} is not sharded"
        assert torch.equal(parameter.full_tensor(), wanted[name]), name
    assert isinstance(model, nn.Module)
    if get_rank() == 0:
        sys.stdout.write("sharded load is exact\n")
    destroy_process_group()


main(Path(sys.argv[1]))
