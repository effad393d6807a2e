"""The pushed images, run as the cluster runs them: user 1000, read-only root, no network, no capability.

`make test-images`, after `make images`. The code in them is that of this checkout, or the test says that it is not.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoetrope.infra.images import read_images
from zoetrope.infra.keys import operators

ROOT = Path(__file__).parents[2]
LOCKED = ["run", "--network", "none", "--read-only", "--tmpfs", "/tmp:mode=1777", "--user", "1000:1000"]
LOCKED += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
WITH_ZOETROPE = ["core", "train", "evaluate"]
ALL = [*WITH_ZOETROPE, "tracking"]
HEALTH = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:5000/health', timeout=2).read().decode())"
# Asks until the server answers or its container is gone; Docker's own health check would need a shell.
WAIT = f"import time\nwhile True:\n try:\n  {HEALTH}; break\n except OSError: time.sleep(0.2)"
TRAIN = """
import torch
from zoetrope.model.mmdit.model import MMDiT
layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), 0.1)
inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
losses = []
for _ in range(50):
    loss = (layer(inputs) - inputs.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(float(loss.detach()))
print("learned", losses[-1] < losses[0] / 10, MMDiT.__name__, torch.__file__)
"""
VBENCH = """
import cv2, decord, numpy, torch, torchvision, vbench, vbench.temporal_flickering
boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5)
print(numpy.__version__.split(".")[0], kept.tolist(), torch.__file__)
"""

pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def _docker() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "version"], check=False, capture_output=True).returncode
    ):
        pytest.exit("no Docker here: the images are run by it; start it or set DOCKER_HOST", returncode=2)
    if not (ROOT / "images.lock").exists():
        pytest.exit("no images.lock: make images REGISTRY=host/prefix comes first", returncode=2)


def image(name: str) -> str:
    return read_images(ROOT / "images.lock").image(name)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def run(name: str, *arguments: str, program: str = "") -> str:
    entry = ["--entrypoint", program] if program else []
    return docker(*LOCKED, "--rm", *entry, image(name), *arguments)


@pytest.mark.parametrize("name", WITH_ZOETROPE)
def test_the_entry_command_runs(name: str) -> None:
    assert "Usage: zoetrope" in run(name, "--help")
    assert run(name, "config", "show", "nano").startswith("name: nano")


@pytest.mark.parametrize("name", WITH_ZOETROPE)
def test_what_kfp_starts_is_there_and_the_code_is_this_checkouts(name: str) -> None:
    module = "zoetrope.components.report.step"
    lines = ["import kfp.dsl.executor_main, os", "from zoetrope.infra.keys import operators"]
    lines += [f"print(os.getuid(), len(operators({module!r})))"]
    # by way of a shell and `python3`, as KFP's lightweight components are started
    said = run(name, "-c", f'python3 -c "{"; ".join(lines)}"', program="sh")
    assert said.split() == ["1000", str(len(operators(module)))]


def test_core_has_git_and_no_torch() -> None:
    found = run("core", "-c", "import importlib.util as u; print(u.find_spec('torch'))", program="python3")
    assert found.strip() == "None"
    assert run("core", "--version", program="git").startswith("git version")


def test_train_trains() -> None:
    said = run("train", "-c", TRAIN, program="python3")
    assert said.split() == ["learned", "True", "MMDiT", "/opt/torch/torch/__init__.py"]
    assert "--nproc-per-node" in run("train", "--help", program="torchrun")


def test_evaluate_has_vbench_over_the_same_torch() -> None:
    assert run("evaluate", "-c", VBENCH, program="/opt/vbench/bin/python").split() == [
        "1",
        "[1]",
        "/opt/torch/torch/__init__.py",
    ]
    assert run("evaluate", "-c", TRAIN, program="python3").startswith("learned True")


@pytest.fixture
def server() -> Iterator[str]:
    command = ["server", "--host", "127.0.0.1", "--port", "5000", "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:////tmp/mlflow.db", "--artifacts-destination", "/tmp/artifacts"]
    container = docker(*LOCKED, "--detach", image("tracking"), *command).strip()
    yield container
    docker("rm", "--force", container)


def test_tracking_serves(server: str) -> None:
    assert docker("exec", server, "python3", "-c", WAIT).strip() == "OK"
    # both ways to write the address of the database; making the engine imports its driver
    engines = "; ".join(f"create_engine('{kind}://a@b/c')" for kind in ("postgresql", "postgresql+psycopg2"))
    docker("exec", server, "python3", "-c", f"import boto3; from sqlalchemy import create_engine; {engines}")


def test_train_and_evaluate_share_the_layer_of_torch() -> None:
    layers = {name: json.loads(docker("inspect", "--format", "{{json .RootFS.Layers}}", image(name))) for name in ALL}
    rows = docker("history", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", image("train")).splitlines()
    assert any("/opt/torch" in row and re.match(r"[3-9](\.\d+)?GB ", row) for row in rows)
    environment = layers["train"][:-2]  # less the bytecode of the standard library and zoetrope, which come last
    assert layers["evaluate"][: len(environment)] == environment
    assert set(layers["core"]) & set(layers["train"]) == set(layers["tracking"]) & set(layers["train"])


@pytest.mark.parametrize("name", ALL)
def test_an_image_says_what_it_is_and_keeps_no_secret(name: str) -> None:
    docker("pull", "--quiet", image(name))
    (config,) = json.loads(docker("inspect", image(name)))
    labels = config["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}(\+dirty)?", labels["org.opencontainers.image.revision"])
    assert config["Config"]["User"] == "1000:1000"
    assert config["Config"]["Entrypoint"][0] in {"zoetrope", "mlflow"}
    past = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image(name)) + json.dumps(config["Config"])
    secret = (
        r"(?i)(password|passwd|secret|token|api_?key|access_?key)[\"']?\s*[=:]|://[^/\s]+:[^/\s]+@|AKIA[0-9A-Z]{16}"
    )
    assert re.search(secret, past) is None
    assert re.search(r":latest|\blatest\b", past) is None
