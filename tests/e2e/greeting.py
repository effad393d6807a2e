"""A TorchX component for the scheduler's test: plain PyTorch that knows nothing of zoetrope, started by torchrun."""

import torchx.specs as specs
from torchx.components.dist import torchrun

SCRIPT = """
import signal, sys, time
import torch
from torch import distributed, nn

# The first process of a container does not end by this signal unless it says so, and is killed 2 minutes later.
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
distributed.init_process_group("gloo")
rank, world = distributed.get_rank(), distributed.get_world_size()
print(f"node {rank} of {world} begins", flush=True)
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.randn(64, 4, generator=torch.Generator().manual_seed(rank))
for _ in range(5):
    optimizer.zero_grad()
    loss = (model(data) - data.sum(dim=1, keepdim=True)).square().mean()
    loss.backward()
    optimizer.step()
time.sleep(float(sys.argv[1]))
print(f"node {rank} of {world} ends, weights {model.module.weight.sum().item():.3f}", flush=True)
distributed.destroy_process_group()
"""


def greet(image: str = "", nodes: int = 2, seconds: float = 5.0) -> specs.AppDef:
    """Trains one layer on all nodes together, and says so on each.

    Args:
        image: container image with PyTorch
        nodes: how many
        seconds: how long each waits at the end
    """
    # A script that is not in the image: torchrun starts `python3 -c` in its place.
    given = ("python3", "-c", SCRIPT, str(seconds))
    app = torchrun(*given, script="--no-python", image=image, name="greeting", j=f"{nodes}x1", cpu=1, memMB=1500)
    app.roles[0].name = "node"
    return app
