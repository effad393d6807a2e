"""What holds for all tests, and a stand-in for the cluster: replicas of a job that share the store and no disk."""

from __future__ import annotations

import copy
import os
import random
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.processes import nothing_left_running
from tests.shared import once
from zoetrope.infra.launch import JobReport, run_app, run_local
from zoetrope.infra.settings import Settings
from zoetrope.infra.tracking import local_tracking_uri
from zoetrope.infra.tracking.client import open_client

__all__ = ["nothing_left_running"]  # a fixture

# No example has a deadline and none is too slow: on a loaded machine any may be. In CI the examples are the same every
# time, so that a change is not blamed for what another draw finds; at home they are others every time.
hypothesis.settings.register_profile(
    "zoetrope",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis.settings.load_profile("zoetrope")


SLOW = [Path(__file__).parent / line for line in Path(__file__).with_name("slow.txt").read_text().split()]
"""Files whose tests take about 10 s or more together, slowest first (`pytest --junitxml` of a whole run)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of slow files come first, so that none is left for the end when files are shared out, and are marked."""
    order = {path: place for place, path in enumerate(SLOW)}
    assert [path for path in SLOW if not path.is_file()] == [], "tests/slow.txt names files that are gone"
    for item in items:
        if item.path in order:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: order.get(item.path, len(order)))


class StandIn:
    """Runs an app as Kubernetes would: one process a replica, each with its number and a scratch folder of its own.

    Attributes:
        folder: of the scratch folders and logs.
        jobs: the digests of the jobs that were run.
        environment: added to every replica.
        at_once: replicas that run at a time; 0 for all, as training needs it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[str] = []
        self.replicas: list[int] = []
        self.environment: dict[str, str] = {}
        self.processes_per_node = 1
        self.at_once = 4

    def run_app(
        self,
        app: Any,
        context: Any,
        *,
        environment: Callable[[], Mapping[str, str]] = dict,
        digest: str = "",
        result: str = "",
    ) -> JobReport:
        """See `zoetrope.infra.launch.run_app`."""
        if not Settings().cluster:
            return run_app(app, context, environment=environment, digest=digest, result=result)
        self.jobs.append(digest)
        (role,) = app.roles
        self.replicas.append(role.num_replicas)
        port = free_port()
        added = environment()
        roles = [self._replica(role, index, port, added) for index in range(role.num_replicas)]
        step = self.at_once or len(roles)
        for start in range(0, len(roles), step):
            part = type(app)(name=app.name, roles=roles[start : start + step])
            run_local(part, self.folder / f"logs-{len(self.jobs)}")
        return JobReport(app.name)

    def _replica(self, role: Any, index: int, port: int, environment: Mapping[str, str]) -> Any:
        scratch = self.folder / f"node-{index}"
        scratch.mkdir(exist_ok=True)
        one = copy.deepcopy(role)
        one.name, one.num_replicas, one.max_retries = f"{role.name}-{index}", 1, 0
        one.entrypoint = sys.executable if role.entrypoint == "python" else role.entrypoint
        one.env = {
            "TMPDIR": str(scratch),
            "JOB_COMPLETION_INDEX": str(index),
            "PET_NNODES": str(role.num_replicas),
            "PET_NPROC_PER_NODE": str(self.processes_per_node),
            "PET_NODE_RANK": str(index),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
            **environment,
            **self.environment,
            **role.env,
        }
        return one


def free_port() -> int:
    """A port that nobody listens on, below those that the system hands out by itself until torchrun has started."""
    for port in random.sample(range(20000, 30000), 100):
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 20000 and 30000")


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of MLflow in which nothing is yet, to be copied; making one takes seconds."""

    def make(folder: Path) -> None:
        open_client(local_tracking_uri(folder)).search_experiments()

    return once(tmp_path_factory, "mlflow", make)


@pytest.fixture
def mlflow_uri(empty_mlflow: Path, tmp_path: Path) -> str:
    """Address of a database of the test's own."""
    return local_tracking_uri(shutil.copytree(empty_mlflow, tmp_path / "mlflow"))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Steps believe that they run on a cluster, whose jobs the stand-in runs."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = StandIn(folder)
    monkeypatch.setenv("ZOETROPE_CLUSTER", "true")
    monkeypatch.setenv("ZOETROPE_RUN_ID", "run-1")
    monkeypatch.setattr("zoetrope.infra.launch.run_app", cluster.run_app)
    return cluster
