"""What the step hands to its training job, and how the job is described for any launcher."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.placement import Placement
from zoetrope.infra.references import digest_json
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import Store, get_json, open_store, put_json

if TYPE_CHECKING:
    from torchx.specs import AppDef

WORKER = "zoetrope.components.train.worker"
THREADS = 1
"""PyTorch threads of a worker; fixed, because the order of sums depends on it."""


PODS_FOLDER = "zoetrope"
"""Below a pod's temporary folder: what the workers of one node share."""


@dataclass(frozen=True)
class TrainingJob:
    """One training job, as JSON on its way to the workers.

    Attributes:
        kind: which training.
        config: of the step.
        inputs: name -> reference of what the step reads.
        store: root of the store.
        result: key of the result in the store; written by the first worker at the end.
        step: name of the step in the run.
        attempt: of the step.
        run_id: the pipeline run.
        key: of the execution (`StepContext.key`).
        run_directory: for metrics and events; empty on a cluster, like the following: pods have their own.
        work: scratch folder that all workers share.
        state: folder of resumable states.
        mirror: key of the states in the store; empty where their folder outlives an attempt.
        device: that each worker computes on; `cuda` where the step holds GPUs.
    """

    kind: Literal["autoencoder", "stage"]
    config: dict[str, Any]
    inputs: dict[str, str]
    store: str
    result: str
    step: str
    attempt: int
    run_id: str
    key: str
    run_directory: str
    work: str
    state: str
    mirror: str
    device: Literal["cpu", "cuda"] = "cpu"

    @classmethod
    def of(
        cls,
        kind: Literal["autoencoder", "stage"],
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        context: StepContext,
        *,
        pods: bool = False,
        gpus: int = 0,
    ) -> TrainingJob:
        """The job of one execution of a step; with `pods` its workers share the store alone, `gpus` are the step's."""
        job = cls(
            kind=kind,
            config=dict(config),
            inputs=dict(inputs),
            store=context.store.root,
            result="",
            step=context.step,
            attempt=context.attempt,
            run_id=context.run_id,
            key=context.key,
            run_directory="" if pods else str(context.run_directory.absolute()),
            work="" if pods else str(context.work.absolute()),
            state="" if pods else str((context.resume or context.work / "state").absolute()),
            mirror=f"resume/{context.step}-" if pods else "",
            device="cuda" if gpus else "cpu",
        )
        # Without the attempt: a launcher that was away finds what its job did meanwhile.
        digest = job.digest[:16]
        mirror = job.mirror + (context.key[:16] or digest) if pods else ""
        return replace(job, result=f"training/{job.run_id}/{job.step}-{digest}.json", mirror=mirror)

    @property
    def digest(self) -> str:
        """Of everything that the result depends on: a state of another digest is never resumed."""
        return digest_json({"kind": self.kind, "config": self.config, "inputs": self.inputs, "key": self.key})

    @property
    def loop(self) -> dict[str, Any]:
        """Settings of the training loop (`LoopConfig`)."""
        found: dict[str, Any] = self.config["stage" if self.kind == "stage" else "training"]
        return found

    @property
    def failure(self) -> str:
        """Key of why the job failed, for the step to say."""
        return self.result.removesuffix(".json") + ".failure.json"

    def folder(self, given: str, name: str) -> Path:
        """A folder of the job: the given one, or this pod's own."""
        own = Path(tempfile.gettempdir(), PODS_FOLDER, f"{self.step}-{self.digest[:16]}")
        return Path(given) if given else own / name

    def context(self, store: Store) -> StepContext:
        """The step's context, as a worker sees it."""
        return StepContext(
            step=self.step,
            store=store,
            work=self.folder(self.work, "work"),
            run_directory=self.folder(self.run_directory, "run"),
            run_id=self.run_id,
            attempt=self.attempt,
            resume=self.folder(self.state, "state"),
            key=self.key,
        )

    def open_store(self) -> Store:
        """The store that the job works on."""
        return open_store(self.store)

    def write(self, path: Path) -> Path:
        """Writes the job for `read`."""
        path.write_text(json.dumps(asdict(self), sort_keys=True), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> TrainingJob:
        """Reads what `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def of_arguments(cls, arguments: Sequence[str]) -> TrainingJob | None:
        """The job that torchrun was started for, by its arguments; None where it runs something else."""
        words = list(arguments)
        if WORKER not in words:
            return None
        place = words[words.index(WORKER) + 1 :]
        return cls.read(Path(place[0])) if len(place) == 1 else cls.get(*place)

    def put(self) -> str:
        """Stores the job for `get`; returns its reference."""
        return str(put_json(self.open_store(), asdict(self)))

    @classmethod
    def get(cls, store: str, reference: str) -> TrainingJob:
        """Reads what `put` stored."""
        return cls(**get_json(open_store(store), reference))


def local_app(name: str, job: Path, workers: int) -> AppDef:
    """The job for TorchX on this machine: torchrun with `workers` processes of one thread each."""
    arguments = ["--standalone", "--nproc-per-node", str(workers), "-m", WORKER, str(job)]
    return _app(name, sys.executable, arguments, 1)


def pods_app(name: str, store: str, job: str, nodes: int) -> AppDef:
    """The job for TorchX on a cluster: one torchrun a node, which finds its peers by the variables PET_*.

    Args:
        name: of the step.
        store: root of the store.
        job: reference of the job in it.
        nodes: pods.
    """
    return _app(name, "python", ["-m", WORKER, store, job], nodes)


def require_world(workers: int, placement: Placement, step: str) -> None:
    """The number of workers is part of the result, so a place with another number is refused.

    Raises:
        ZoetropeError: nodes times processes is another number.
    """
    world = placement.nodes * placement.processes_per_node
    if world != workers:
        raise ZoetropeError(
            f"{step}: {placement.nodes} nodes with {placement.processes_per_node} processes each are {world} workers, "
            f"the step's configuration says {workers}",
            "make nodes x processes_per_node of its resources equal to its workers",
        )


def _app(name: str, python: str, torchrun: list[str], nodes: int) -> AppDef:
    from torchx.specs import AppDef, Role

    role = Role(
        name="trainer",
        image="",
        entrypoint=python,
        args=["-m", "zoetrope.components.train.torchrun", *torchrun],
        env={"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)},
        num_replicas=nodes,
    )
    return AppDef(name=name.replace("_", "-"), roles=[role])
