"""The code digest follows the imports of a step and nothing else."""

from zoetrope.pipelines.definition.code_digest import closure, code_digest, module_file
from zoetrope.pipelines.definition.step_table import STEPS


def test_every_step_exists_and_has_a_digest() -> None:
    digests = {row.module: code_digest(row.module) for row in STEPS.values()}
    assert all(module_file(row.component) for row in STEPS.values())
    assert len(set(digests.values())) == len(digests)


def test_training_does_not_depend_on_the_report_but_on_its_worker() -> None:
    modules = closure("zoetrope.components.train.step")
    assert "zoetrope.components.train.worker" in modules
    assert "zoetrope.model.mmdit.model" in modules
    assert not [name for name in modules if "report" in name or name.startswith("zoetrope.pipelines")]
