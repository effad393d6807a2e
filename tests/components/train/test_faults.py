"""Faults around a training job: what a person is told is what went wrong first, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tests.components.train.test_train_steps import STAGE, dataset_and_parent, stage_config
from zoetrope.components.train import torchrun
from zoetrope.components.train.explained import explained
from zoetrope.components.train.failures import Failure, first_cause, leave_note, oom_kills, read_notes
from zoetrope.components.train.job import WORKER, TrainingJob
from zoetrope.components.train.step import train_stage
from zoetrope.components.train.worker import train
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import canonical_json
from zoetrope.model.training import loop
from zoetrope.model.training.faults import no_space_left
from zoetrope.model.training.heartbeat import supervised_folder
from zoetrope.model.training.loop import StoppedError

PEERS = Failure(0, 1.0, "stage_1: a worker lost its peers: x", "run it again", 75, own=False)
FULL = Failure(1, 2.0, "stage_1: disk full", "free some space", 75, own=True)


def test_what_a_rank_did_itself_comes_before_what_its_peers_saw_of_it() -> None:
    assert first_cause([PEERS, FULL], {0: 75, 1: 75}) is FULL
    assert first_cause([FULL, replace(FULL, rank=2, at=1.5)], {0: 2, 1: 75}).rank == 2
    assert first_cause([PEERS], {0: 75}) is PEERS
    killed = first_cause([PEERS], {0: 75, 1: -9})
    assert killed.headline == "rank 1 was killed by SIGKILL (out of memory?)" and killed.exit_code == 137
    assert first_cause([PEERS], {0: 75, 1: -9}, out_of_memory=True).headline.endswith("the memory was full")
    elsewhere = first_cause([PEERS], {0: 75, 1: -9}, out_of_memory=False)
    assert (elsewhere.headline, elsewhere.retryable) == ("rank 1 was killed by SIGKILL", True)
    assert first_cause([PEERS], {0: 75, 1: -11}).headline == "rank 1 was killed by SIGSEGV"
    assert first_cause([PEERS], {0: 75, 1: 3}).headline == "rank 1 failed with exit status 3"
    stopped = first_cause([], {0: 143, 1: -15})
    assert (stopped.exit_code, stopped.own) == (143, False)


def test_notes_of_ranks_come_back_in_the_order_of_the_faults(tmp_path: Path) -> None:
    leave_note(tmp_path, FULL)
    leave_note(tmp_path, PEERS)
    (tmp_path / "rank-2.failure").write_text('{"rank": 2, "at"')  # killed while it wrote
    leave_note(None, FULL)
    assert read_notes(tmp_path) == [PEERS, FULL]


def test_the_system_says_how_many_processes_it_has_ended_for_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\n")
    assert oom_kills([tmp_path / "nowhere", tmp_path / "memory.events"]) == 3
    assert oom_kills([tmp_path / "nowhere"]) is None


def chained(first: BaseException, error: BaseException) -> BaseException:
    error.__cause__ = first
    return error


class CheckpointError(Exception):
    """As torch.distributed.checkpoint raises it."""

    def __init__(self) -> None:
        super().__init__("CheckpointException ranks:dict_keys([1])")
        self.failures = {1: (OSError(errno.ENOSPC, "No space left on device"), None)}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/x/part"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        chained(OSError(errno.ENOSPC, "x"), RuntimeError("gloo: connection closed by peer")),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        CheckpointError(),
        ExceptionGroup("two", [ValueError("x"), OSError(errno.ENOSPC, "x")]),
    ],
    ids=["os", "quota", "behind another", "safetensors", "checkpoint", "group"],
)
def test_a_full_disk_never_reads_as_lost_peers(error: Exception, tmp_path: Path) -> None:
    assert no_space_left(error) and not no_space_left(RuntimeError("gloo: timed out"))
    failure = explained(error, "stage_1", tmp_path, 1, 5.0)
    assert failure.headline.startswith("stage_1: disk full: ") and failure.own and failure.retryable


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (ConnectionResetError("reset"), ("stage_1: a worker lost its peers: reset", 75, False)),
        (RuntimeError("[/gloo/pair.cc:534] Connection closed"), ("stage_1: a worker lost its peers", 75, False)),
        (ValueError("training: the loss is nan"), ("stage_1: ValueError: training: the loss is nan", 2, True)),
        (KeyError("x"), ("stage_1: KeyError: 'x'", 1, True)),
        (StoppedError("stopped after step 3"), ("stage_1: stopped after step 3", 143, False)),
        (ZoetropeError("a: b", "c", retryable=True), ("a: b", 75, True)),
    ],
)
def test_what_errors_mean(error: Exception, wanted: tuple[str, int, bool], tmp_path: Path) -> None:
    failure = explained(error, "stage_1", tmp_path, 0, 0.0)
    assert failure.headline.startswith(wanted[0])
    assert (failure.exit_code, failure.own) == wanted[1:]


def job(folder: Path) -> TrainingJob:
    names = ("store", "result", "step", "run_id", "key", "run_directory", "work", "state", "mirror")
    values: dict[str, Any] = dict.fromkeys(names, "") | {"step": "stage_1", "state": str(folder / "not" / "there")}
    return TrainingJob(kind="stage", config={}, inputs={}, attempt=1, **values)


def test_the_launcher_finds_the_job_of_its_arguments(tmp_path: Path) -> None:
    written = job(tmp_path)
    path = written.write(tmp_path / "job.json")
    assert TrainingJob.of_arguments(["--standalone", "-m", WORKER, str(path)]) == written
    assert TrainingJob.of_arguments(["script.py"]) is None


def test_sigterm_saves_without_a_mirror_and_the_next_attempt_goes_on(
    checkpoint_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dataset, _ = dataset_and_parent(checkpoint_store)
    config = stage_config(checkpoint_store, stage=replace(STAGE, save_every=0)).model_dump(mode="json")
    context = StepContext("stage_2", store, tmp_path / "work", tmp_path / "run", resume=tmp_path / "resume")
    context.work.mkdir()
    asked = TrainingJob.of("stage", config, {"dataset": dataset, "parent": ""}, context)
    run_step = loop._Loop.run_step

    def disturbed(self: Any) -> None:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        run_step(self)

    former = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as once:
        once.setattr(loop._Loop, "run_step", disturbed)
        with pytest.raises(StoppedError, match="stopped after step 2 of 4"):
            train(asked)
    assert signal.getsignal(signal.SIGTERM) is former
    train(asked)
    assert json.loads(store.read(store.uri(asked.result)))["resumed_at"] == 2


def failed_ranks(*notes: Failure) -> Any:
    """torchrun, whose ranks leave notes and end."""

    def run(arguments: list[str]) -> None:
        folder = supervised_folder()
        for note in notes:
            leave_note(folder, note)
        failures = {note.rank: ProcessFailure(note.rank, 1, note.exit_code, "") for note in notes}
        raise ChildFailedError("ranks", failures)

    return run


@pytest.mark.parametrize(
    ("notes", "status", "said"),
    [
        ((PEERS, FULL), 75, {"headline": "stage_1: disk full", "hint": "free some space", "retryable": True}),
        ((replace(FULL, headline="rank 1 did it", exit_code=2),), 2, {"headline": "stage_1: rank 1 did it"}),
        ((PEERS,), 75, None),
    ],
)
def test_the_launcher_leaves_the_first_cause_for_the_step(
    notes: tuple[Failure, ...], status: int, said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = replace(job(tmp_path), store=str(tmp_path / "store"), result="training/r/s.json")
    monkeypatch.setattr("torch.distributed.run.main", failed_ranks(*notes))
    former = signal.getsignal(signal.SIGTERM)
    try:
        assert torchrun.main(["-m", WORKER, str(written.write(tmp_path / "job.json"))]) == status
    finally:
        signal.signal(signal.SIGTERM, former)
    store = written.open_store()
    if said is None:
        assert not store.exists(store.uri(written.failure))
        return
    found = json.loads(store.read(store.uri(written.failure)))
    assert said.items() <= found.items()
    assert supervised_folder() is None


class Launcher:
    """Jobs that end as they are told: with what their ranks said, or with a result."""

    def __init__(self, store: Any, *endings: dict[str, Any] | None) -> None:
        self.store, self.endings, self.runs = store, list(endings), 0

    def __call__(self, app: Any, context: StepContext, *, result: str, **more: Any) -> None:
        self.runs += 1
        said = self.endings.pop(0)
        if said is None:
            curve = {"samples_per_second": [[1, 1.0]], "loss": [[1, 0.5]]}
            made = {"weights": REFERENCE, "curve": curve, "final_loss": 0.5, "parameters": 1, "resumed_at": 2}
            self.store.put_bytes(result, canonical_json({**made, "mmdit": {}, "attention_backend": "sdpa"}))
            return
        self.store.put_bytes(result.removesuffix(".json") + ".failure.json", canonical_json(said))
        raise ZoetropeError("stage_2: replica 0 failed", "the end of its log")


REFERENCE = f"weights@sha256:{'0' * 64}"
HUNG = {"headline": "stage_2: rank 1 hangs", "hint": "", "retryable": True, "restart": True}
DISK = {"headline": "stage_2: disk full", "hint": "free some space", "retryable": True, "restart": False}


@pytest.mark.parametrize(
    ("endings", "runs", "message"),
    [
        ([HUNG, HUNG, None], 3, ""),
        ([HUNG, DISK], 2, "stage_2: disk full"),
        ([HUNG] * 4, 4, "stage_2: rank 1 hangs"),
    ],
)
def test_a_job_whose_rank_hung_is_started_again_here(
    endings: list[Any], runs: int, message: str, checkpoint_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dataset, parent = dataset_and_parent(checkpoint_store)
    launcher = Launcher(store, *endings)
    monkeypatch.setattr("zoetrope.components.train.step.launch.run_app", launcher)
    context = StepContext("stage_2", store, tmp_path / "work", tmp_path / "run", run_id=tmp_path.name)
    if message:
        with pytest.raises(ZoetropeError, match=message) as caught:
            train_stage(stage_config(checkpoint_store), dataset, parent, context)
        assert caught.value.retryable
    else:
        train_stage(stage_config(checkpoint_store), dataset, parent, context)
        events = (context.run_directory / "events.jsonl").read_text()
        assert events.count("rank 1 hangs; it is started again and goes on from its last state") == 2
    assert launcher.runs == runs


STOPS = """
import os, signal
from zoetrope.model.training.process_group import join_process_group

with join_process_group() as workers:
    for step in range(1, 4):
        workers.wait()
        workers.heartbeat.step(step)
    if workers.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    workers.wait()
"""


def test_a_stopped_rank_ends_the_job_for_restart_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "stops.py").write_text(STOPS)
    code = (
        "import sys\nfrom zoetrope.components.train.supervisor import Limits\n"
        "from zoetrope.components.train.torchrun import main\n"
        "sys.exit(main(sys.argv[1:], Limits(stopped=1, poll=0.1)))"
    )
    command = [sys.executable, "-c", code, "--standalone", "--nproc-per-node", "2", str(tmp_path / "stops.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 75, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert (
        last.startswith("zoetrope: a rank has been stopped for 1 s: rank 1 (pid ")
        and "after step 3) is stopped" in last
    )
    assert "rank 0 (pid" in done.stderr and "waits in barrier (torch/distributed/distributed_c10d.py" in done.stderr
