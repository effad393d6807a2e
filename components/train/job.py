"""What the step hands to its training job, and how the job is described for any launcher."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoetrope.infra.references import digest_json
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import Store, open_store

if TYPE_CHECKING:
    from torchx.specs import AppDef

THREADS = 1
"""PyTorch threads of a worker; fixed, because the order of sums depends on it."""


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
        run_directory: for metrics and events.
        work: scratch folder that all workers share.
        state: folder of resumable states.
    """

    kind: Literal["autoencoder", "stage"]
    config: dict[str, Any]
    inputs: dict[str, str]
    store: str
    result: str
    step: str
    attempt: int
    run_id: str
    run_directory: str
    work: str
    state: str

    @classmethod
    def of(
        cls,
        kind: Literal["autoencoder", "stage"],
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        context: StepContext,
    ) -> TrainingJob:
        """The job of one execution of a step."""
        return cls(
            kind=kind,
            config=dict(config),
            inputs=dict(inputs),
            store=context.store.root,
            result=f"training/{context.run_id}/{context.step}.{context.attempt}.json",
            step=context.step,
            attempt=context.attempt,
            run_id=context.run_id,
            run_directory=str(context.run_directory.absolute()),
            work=str(context.work.absolute()),
            state=str((context.resume or context.work / "state").absolute()),
        )

    @property
    def digest(self) -> str:
        """Of everything that the result depends on: a state of another digest is never resumed."""
        return digest_json({"kind": self.kind, "config": self.config, "inputs": self.inputs})

    def context(self, store: Store) -> StepContext:
        """The step's context, as a worker sees it."""
        return StepContext(
            step=self.step,
            store=store,
            work=Path(self.work),
            run_directory=Path(self.run_directory),
            run_id=self.run_id,
            attempt=self.attempt,
            resume=Path(self.state),
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


def app_definition(name: str, job: Path, workers: int) -> AppDef:
    """The training job for TorchX: torchrun with `workers` processes of one thread each."""
    from torchx.specs import AppDef, Role

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    role = Role(
        name="trainer",
        image="",
        entrypoint=sys.executable,
        args=[*torchrun, "-m", "zoetrope.components.train.worker", str(job)],
        env={"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)},
        num_replicas=1,
    )
    return AppDef(name=name.replace("_", "-"), roles=[role])
