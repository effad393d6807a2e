"""`zoetrope train`: what it refuses before anything starts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.cli.main import app


def train(folder: Path, *words: str) -> Result:
    given = ["train", "stage_1", "--data", "nano-v1", "--out", str(folder / "out"), "--store", str(folder), *words]
    return CliRunner().invoke(app, given)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--set", "stages.stage_1.parallel={context: 3}", "--nproc", "3"],
            "context 3 does not divide the 4 attention",
        ),
        (["--set", "stages.stage_1.parallel={shard: 3}"], "shard 3 does not divide the 2 data-parallel ranks"),
        (["--nproc", "3"], "batch_size 16 has to be a multiple of the 3 data-parallel ranks"),
        (["--set", "stages.stage_1.parallel={offload: true}"], "offload keeps the inputs of fully checkpointed blocks"),
        (["--set", "stages.stage_1.guards={spike: 0.5}"], "spike has to be above 1"),
        (["--set", "stages.stage_1.retention={last: 0}"], "keeps no checkpoint to continue from"),
        (["--resume", "always"], "--resume always: unknown"),
        (["--device", "tpu"], "--device tpu: unknown"),
        (["--from", "nothing.safetensors"], "--from nothing.safetensors: no such file"),
        ([], "nano-v1"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(tmp_path: Path, words: list[str], message: str) -> None:
    result = train(tmp_path, *words)
    assert isinstance(result.exception, ZoetropeError)
    assert message in result.exception.headline
    assert not (tmp_path / "out").exists()


def test_a_stage_that_there_is_not_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "stage_9", "--data", "nano-v1", "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ZoetropeError)
    assert result.exception.headline == "stage_9: no such stage"
