"""A TorchX component for the scheduler's test: each node says that it is there, works for a while and ends."""

import torchx.specs as specs

SCRIPT = """
import signal, sys, time
# The first process of a container does not end by this signal unless it says so, and is killed 2 minutes later.
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
print(f"node {sys.argv[1]} begins", flush=True)
time.sleep(float(sys.argv[2]))
print(f"node {sys.argv[1]} ends", flush=True)
"""


def greet(image: str = "", nodes: int = 2, seconds: float = 5.0) -> specs.AppDef:
    """Greets from each node.

    Args:
        image: container image with Python
        nodes: how many
        seconds: how long each works
    """
    role = specs.Role(
        name="node",
        image=image,
        entrypoint="python3",
        args=["-c", SCRIPT, specs.macros.replica_id, str(seconds)],
        num_replicas=nodes,
        resource=specs.Resource(cpu=1, gpu=0, memMB=256),
    )
    return specs.AppDef(name="greeting", roles=[role])
