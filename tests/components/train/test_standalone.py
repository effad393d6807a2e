"""A stage trained by itself: alone and sharded under torchrun, stopped and continued, without what pipelines need."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from zoetrope.components.train.config import TrainStageConfig
from zoetrope.components.train.standalone import StandaloneJob
from zoetrope.infra.signals import EXIT_TERMINATED
from zoetrope.infra.store import get_json
from zoetrope.model.checkpoint import make_config, read_weights
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.parallel.config import ParallelConfig
from zoetrope.model.training.config import OptimizerConfig, StageConfig

STAGE = StageConfig(
    bucket="16px_4f", steps=6, batch_size=4, log_every=1, save_every=2, conditions={"t2v": 1, "i2v_head": 1},
    # a large eps: AdamW would blow rounding up where gradients are close to zero
    optimizer=OptimizerConfig(learning_rate=1e-2, eps=1e-3, ema_decay=0.5),
)  # fmt: skip
ALONE = """
import sys
from zoetrope.components.train.standalone import main
code = main(sys.argv[1:])
print({"kfp", "mlflow", "dvc", "av", "kubernetes", "great_expectations"} & set(sys.modules))
sys.exit(code)
"""


@pytest.fixture
def job(checkpoint_store, tmp_path):
    store, reference = checkpoint_store
    checkpoint = get_json(store, reference)

    def write(name, workers=1, **changes):
        mmdit = make_config(MMDiTConfig, checkpoint["config"]["mmdit"])
        config = TrainStageConfig(name="stage_1", stage=replace(STAGE, **changes), mmdit=mmdit, workers=workers)
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        described = StandaloneJob(config.model_dump(mode="json"), store.root, checkpoint["dataset"], str(out))
        (out / "job.json").write_text(json.dumps(asdict(described)))
        return out

    return write


def alone(out, **options):
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(out / "job.json")], check=False, capture_output=True, text=True, **options
    )


def sharded(out, processes):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "zoetrope.components.train.standalone", str(out / "job.json")]
    return subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True)


def losses(out):
    return {line["step"]: line["loss"] for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())}


def test_alone_and_sharded_it_is_the_same_training(job):
    first, second = job("alone"), job("sharded", 2, parallel=ParallelConfig(shard=2, checkpointing="selective"))
    done = alone(first)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    done = sharded(second, 2)
    assert done.returncode == 0, done.stderr
    assert losses(second) == pytest.approx(losses(first), rel=1e-5)
    weights = [read_weights(out / "weights.safetensors") for out in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-5)
    described = json.loads((second / "training.json").read_text())
    assert described["mesh"] == {"replicate": 1, "shard": 2, "context": 1}


def test_told_to_stop_it_keeps_its_state_and_goes_on_bit_for_bit(job):
    whole, stopped = job("whole", steps=200), job("stopped", steps=200)
    assert alone(whole).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(stopped / "job.json")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3 "):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == EXIT_TERMINATED
    done = alone(stopped)
    assert done.returncode == 0, done.stderr
    assert json.loads((stopped / "training.json").read_text())["resumed_at"] > 0
    expected, found = (read_weights(out / "weights.safetensors") for out in (whole, stopped))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert losses(stopped) == losses(whole)
