"""The MLPerf log, judged by mlperf_logging's own checker under our rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlperf_logging.compliance_checker import mlp_compliance

from zoetrope.components.train.mlperf_log import RULES, MlperfLog, RunDescription

RUN = RunDescription(
    submission_org="somebody",
    submission_platform="2 CPU cores",
    seed=42,
    train_samples=606,
    eval_samples=30,
    global_batch_size=16,
    micro_batch_size=8,
    gradient_accumulation_steps=1,
    opt_base_learning_rate=2e-3,
    opt_learning_rate_warmup_steps=100,
    opt_adamw_beta_1=0.9,
    opt_adamw_beta_2=0.95,
    opt_adamw_epsilon=1e-15,
    opt_adamw_weight_decay=0.0,
    opt_gradient_clip_norm=1.0,
    config_filename="nano_stage_1.yaml",
    target_loss=0.6,
)


def written(path: Path, run: RunDescription = RUN, best: float = 0.55) -> Path:
    log = MlperfLog(path, lambda: 1.8e9)
    log.begin(run)
    log.started()
    for step in (1, 2):
        log.logged(step * 160, 1.0 / step, 2e-3)
        log.validated(step * 160, best * 2 / step)
    log.end(480, "success")
    return path


def complaints(path: Path) -> list[str]:
    checker = mlp_compliance.make_checker("training", "6.1.0", quiet=True, werror=False)
    checker.check_file(str(path), str(RULES))
    return [*checker.overwritable.values(), *checker.not_overwritable]


def test_a_run_is_accepted_by_the_checker(tmp_path: Path) -> None:
    assert complaints(written(tmp_path / "log.txt")) == []
    assert complaints(written(tmp_path / "other.txt", replace(RUN, target_loss=0.0, eval_samples=0))) == []


def test_an_attempt_that_goes_on_says_the_start_once(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    first = MlperfLog(path, lambda: 1.8e9)
    first.begin(RUN)
    first.started()
    first.logged(160, 0.9, 2e-3)
    del first  # killed
    assert complaints(written(path)) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("run_start", "run_begin"), "run_start"),
        (('"status": "success"', '"status": "aborted"'), "run_stop"),
        (('"samples_count": 320', '"samples_count": 3'), "block_stop"),
        (('"opt_adamw_beta_2"', '"opt_beta_2"'), "opt_adamw_beta_2"),
    ],
)
def test_what_is_missing_or_wrong_is_found(change: tuple[str, str], complaint: str, tmp_path: Path) -> None:
    path = written(tmp_path / "log.txt")
    path.write_text(path.read_text().replace(*change))
    assert any(complaint in each for each in complaints(path))


def test_a_target_that_was_not_reached_is_no_success(tmp_path: Path) -> None:
    assert any("run_stop" in each for each in complaints(written(tmp_path / "log.txt", best=0.7)))
