"""One whole `data` pipeline through kfp.local, as a user starts it: cache, kill, interrupt, lock, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from tests.golden.runs import check_dataset
from zoetrope.infra.processes import RunLock

ZOETROPE = [str(Path(sys.executable).parent / "zoetrope")]
RECIPE = str(Path(__file__).parent.parent / "recipes" / "tiny.yaml")
DATA_RUN = [*ZOETROPE, "run", RECIPE, "--pipeline", "data"]


def call(*command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | environment
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, env=variables)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def records(state: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in state.glob("runs/*/record.json")]
    return sorted(found, key=lambda record: str(record["run_id"]))


def carriers(state: Path) -> list[psutil.Process]:
    """Processes of any run of this state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(state) in process.environ().get("ZOETROPE_STORE", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for_event(process: subprocess.Popen[bytes], state: Path, step: str, kind: str) -> None:
    """Returns when the step has said so; polls by waiting for the process, which must not end before."""
    while True:
        for path in state.glob("runs/*/events.jsonl"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if (event["step"], event["event"]) == (step, kind):
                    return
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the run ended before {step} {kind}")


def write_noise(path: Path, size: int, seed: int) -> None:
    """Three seconds of noise, smaller than anything that can be trained on."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for _ in range(72):
            picture = random.integers(0, 255, (size, size, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a run that nobody disturbed."""
    state = tmp_path_factory.mktemp("undisturbed")
    call(*DATA_RUN, "--store", str(state))
    return state


def test_a_run_leaves_a_record_a_version_a_report_and_no_process(undisturbed: Path) -> None:
    (record,) = records(undisturbed)
    assert record["status"] == "FINISHED"
    assert list(record["steps"]) == ["ingest", "curate", "caption", "autoencoder", "encode", "report"]
    assert all(state["status"] == "succeeded" for state in record["steps"].values())
    assert record["dataset"]["tag"] == "tiny-v1"
    check_dataset("tiny", record["dataset"]["digest"])
    assert float(record["cost_usd"]) > 0
    report = (undisturbed / "runs" / record["run_id"] / "report.html").read_text()
    assert record["dataset"]["digest"][:12] in report
    assert carriers(undisturbed) == []


def test_nothing_changed_is_answered_from_the_cache_and_one_setting_redoes_what_follows(undisturbed: Path) -> None:
    call(*DATA_RUN, "--store", str(undisturbed), "--set", "encode.shard_megabytes=256")
    steps = records(undisturbed)[-1]["steps"]
    reused = [name for name, state in steps.items() if state["status"] == "reused"]
    assert sorted(reused) == ["autoencoder", "caption", "curate", "ingest"]
    assert records(undisturbed)[-1]["dataset"] == records(undisturbed)[0]["dataset"]


def test_after_a_kill_the_next_run_ends_survivors_continues_and_gives_the_same_digest(
    undisturbed: Path, tmp_path: Path
) -> None:
    supervisor = subprocess.Popen([*DATA_RUN, "--store", str(tmp_path)], stderr=subprocess.DEVNULL)
    wait_for_event(supervisor, tmp_path, "curate", "started")
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    survivors = carriers(tmp_path)
    assert survivors, "the driver outlives its supervisor's death"
    done = call(*DATA_RUN, "--store", str(tmp_path))
    assert "ended" in done.stderr
    assert not [process for process in survivors if process.is_running()]
    last = records(tmp_path)[-1]
    assert last["steps"]["ingest"]["status"] == "reused"
    assert last["dataset"]["digest"] == records(undisturbed)[0]["dataset"]["digest"]


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([*DATA_RUN, "--store", str(tmp_path)], stderr=subprocess.PIPE)
    wait_for_event(supervisor, tmp_path, "ingest", "started")
    assert carriers(tmp_path)
    supervisor.send_signal(signal.SIGINT)
    _, said = supervisor.communicate(timeout=60)
    assert supervisor.returncode == 130
    assert b"continues" in said
    assert carriers(tmp_path) == []


def test_a_second_run_is_refused_with_the_holder(tmp_path: Path) -> None:
    with RunLock(tmp_path, "zoetrope run nano"):
        done = call(*DATA_RUN, "--store", str(tmp_path), check=False)
    assert done.returncode != 0
    assert str(os.getpid()) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "curate.workerz=1"], "did you mean 'workers'?"),
        (["--set", "curate.workers=many"], "curate.workers must be a valid integer"),
        (["--dataset", "tiny-v9"], "tiny-v9"),
        (["--input", "nowhere"], "no such folder"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = call(*ZOETROPE, "run", RECIPE, "--store", str(tmp_path), *arguments, check=False)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/record.json"))


def test_a_folder_with_nothing_usable_is_refused_with_the_reasons(tmp_path: Path) -> None:
    footage = tmp_path / "footage"
    footage.mkdir()
    (footage / "empty.mp4").touch()
    (footage / "-not a video\n.mp4").write_text("hello")
    (footage / "catalogue.csv").write_text("path,text\nempty.mp4,nothing\n")
    command = [*DATA_RUN, "--store", str(tmp_path / "state"), "--input", str(footage)]
    tracking = "https://someone:hush@127.0.0.1:1"  # nobody answers there
    done = call(*command, "--licence", "CC0-1.0", "--rights", "mine", check=False, MLFLOW_TRACKING_URI=tracking)
    assert done.returncode == 2
    assert "empty.mp4" in done.stderr
    assert "Traceback" not in done.stderr
    (record,) = records(tmp_path / "state")
    step = record["steps"]["ingest"]
    assert (record["status"], list(record["steps"]), step["status"], step["attempt"]) == (
        "FAILED",
        ["ingest"],
        "failed",
        1,
    )
    assert "usable" in step["message"]
    assert record["message"] == f"ingest: {step['message']}"
    assert record["mlflow"]["tracking_uri"] == "https://127.0.0.1:1"
    # That MLflow is away is said, its password is not: on the terminal, in logs, records, events, products.
    log = (tmp_path / "state" / "runs" / record["run_id"] / "log.txt").read_text()
    assert "MLflow at https://127.0.0.1:1 does not answer" in log
    assert "hush" not in done.stdout + done.stderr
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file() and b"hush" in path.read_bytes()] == []


def test_a_red_gate_stops_the_pipeline_with_column_and_three_rows(tmp_path: Path) -> None:
    footage = tmp_path / "footage"
    footage.mkdir()
    for number in range(4):
        write_noise(footage / f"{number}.mp4", size=12, seed=number)
        (footage / f"{number}.txt").write_text("noise")
    command = [*DATA_RUN, "--store", str(tmp_path / "state"), "--input", str(footage)]
    done = call(*command, "--licence", "CC0-1.0", "--rights", "mine", check=False)
    assert done.returncode == 2
    assert "expect_column_values_to_be_between of column 'width'" in done.stderr
    assert done.stderr.count('"width": 12}') == 3
    assert "curate" not in done.stderr


def test_sample_footage_is_rendered_twice_alike(tmp_path: Path) -> None:
    for name in ("a", "b"):
        call(*ZOETROPE, "data", "samples", str(tmp_path / name), "--seed", "3", "--films", "2")
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert first == second
    assert "truth.json" in first
    refused = call(*ZOETROPE, "data", "samples", str(tmp_path / "a"), check=False)
    assert refused.returncode == 2
    shutil.rmtree(tmp_path / "a")
