"""The log of a training in MLPerf's format, for comparisons with published runs.

Lines as `mlperf_logging` writes them, so its compliance checker reads them; under rules of our own
(`mlperf_rules.yaml`), since the closed divisions fix benchmark, data and target:

    python -m mlperf_logging.compliance_checker --ruleset 6.1.0 --config $PWD/components/train/mlperf_rules.yaml LOG
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TextIO

MARK = ":::MLLOG"
RULES = Path(__file__).with_name("mlperf_rules.yaml")
BENCHMARK = "zoetrope"
Event = Literal["INTERVAL_START", "INTERVAL_END", "POINT_IN_TIME"]


@dataclass(frozen=True)
class RunDescription:
    """What the rules want to be told of a run before it starts; names of the fields are keys of the log.

    Attributes:
        submission_org: who trains.
        submission_platform: on which machines, e.g. `8xH200`.
        seed: of the sample order and of all noise.
        train_samples: clips of the training split.
        eval_samples: held-out clips; 0 where nothing is validated.
        global_batch_size: samples of a step (their mean where steps differ).
        micro_batch_size: samples that one rank computes at once (the most).
        gradient_accumulation_steps: parts of a rank's share of a step.
        opt_name: of the optimizer.
        opt_base_learning_rate: after the warm-up.
        opt_learning_rate_warmup_steps: of the schedule.
        opt_adamw_beta_1: of AdamW, like the following.
        opt_adamw_beta_2: -
        opt_adamw_epsilon: -
        opt_adamw_weight_decay: -
        opt_gradient_clip_norm: largest norm of the gradient.
        lowest_numerical_precision_in_linear: `bfloat16` or `fp32`, like the following.
        lowest_numerical_precision_in_attn: -
        lowest_numerical_precision_in_comm: -
        tensor_parallelism: degree, like the following.
        pipeline_parallelism: -
        context_parallelism: -
        expert_parallelism: -
        config_filename: of the stage.
        target_loss: validation loss that ends the run as a success; 0 where the number of steps does.
    """

    submission_org: str
    submission_platform: str
    seed: int
    train_samples: int
    eval_samples: int
    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    opt_base_learning_rate: float
    opt_learning_rate_warmup_steps: int
    opt_adamw_beta_1: float
    opt_adamw_beta_2: float
    opt_adamw_epsilon: float
    opt_adamw_weight_decay: float
    opt_gradient_clip_norm: float
    config_filename: str
    lowest_numerical_precision_in_linear: str = "fp32"
    lowest_numerical_precision_in_attn: str = "fp32"
    lowest_numerical_precision_in_comm: str = "fp32"
    tensor_parallelism: int = 1
    pipeline_parallelism: int = 1
    context_parallelism: int = 1
    expert_parallelism: int = 1
    opt_name: str = "adamw"
    target_loss: float = 0.0


class MlperfLog:
    """Writes the events of one run, from its start-up to its end; only the first rank has one.

    An attempt that goes on appends to the log: the start of a run is written once.

    Args:
        path: of the log.
        now: seconds since 1970.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known = path.read_text(encoding="utf-8") if path.exists() else ""
        self._stream: TextIO = path.open("a", encoding="utf-8")
        self._now = now

    def begin(self, run: RunDescription) -> None:
        """Start-up begins: what the run is, as far as it has not been said by an attempt before."""
        if self._said("init_start"):
            return
        self._write("POINT_IN_TIME", "cache_clear", value=True)
        self._write("INTERVAL_START", "init_start")
        self._write("POINT_IN_TIME", "submission_benchmark", BENCHMARK)
        self._write("POINT_IN_TIME", "submission_division", "open")
        self._write("POINT_IN_TIME", "submission_status", "research")
        values = asdict(run)
        for each in fields(run):
            self._write("POINT_IN_TIME", each.name, values[each.name])

    def started(self) -> None:
        """Start-up is over: the first sample is about to be read, and the time to be measured begins."""
        if self._said("run_start"):
            return
        self._write("INTERVAL_END", "init_stop")
        self._write("INTERVAL_START", "run_start")
        self.block(0)

    def block(self, samples: int) -> None:
        """A block of steps begins after `samples` samples."""
        self._write("INTERVAL_START", "block_start", metadata={"samples_count": samples})

    def logged(self, samples: int, loss: float, learning_rate: float) -> None:
        """What a log interval found, after `samples` samples."""
        metadata = {"samples_count": samples, "lr": learning_rate}
        self._write("POINT_IN_TIME", "train_loss", loss, metadata)

    def validated(self, samples: int, loss: float) -> None:
        """A validation was made; the block before it ends, and the next one begins."""
        at = {"samples_count": samples}
        self._write("INTERVAL_END", "block_stop", metadata=at)
        self._write("INTERVAL_START", "eval_start", metadata=at)
        self._write("POINT_IN_TIME", "eval_accuracy", loss, at)
        self._write("INTERVAL_END", "eval_stop", metadata=at)
        self.block(samples)

    def end(self, samples: int, status: Literal["success", "aborted"]) -> None:
        """The run is over."""
        self._write("INTERVAL_END", "block_stop", metadata={"samples_count": samples})
        self._write("INTERVAL_END", "run_stop", metadata={"status": status, "samples_count": samples})
        self._stream.close()

    def _said(self, key: str) -> bool:
        return f'"key": "{key}"' in self._known

    def _write(self, event: Event, key: str, value: Any = None, metadata: Mapping[str, Any] | None = None) -> None:
        line = {
            "namespace": "",
            "time_ms": int(self._now() * 1e3),
            "event_type": event,
            "key": key,
            "value": value,
            "metadata": dict(metadata or {}),
        }
        self._stream.write(f"{MARK} {json.dumps(line)}\n")
        self._stream.flush()
