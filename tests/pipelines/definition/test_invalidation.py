"""What changes -> which steps redo, over the real code: the table of docs/decisions/0007."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.keys import KeyParts, differences, operators, versions
from zoetrope.infra.keys.closure import SHAPING_INFRA, CodeTree
from zoetrope.infra.settings import Settings
from zoetrope.pipelines.definition.resolve import resolve_jobs, step_configs
from zoetrope.pipelines.definition.step_table import STEPS
from zoetrope.pipelines.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[3]
KEYED = [row for row in STEPS.values() if row.cached]
TRAININGS = {"autoencoder", "stage_1", "stage_2", "stage_3"}
STAGES = {"stage_1", "stage_2", "stage_3"}
INPUTS = {row.name: {name: f"{ord(name[0]) % 15:x}" * 64 for name in row.inputs} for row in KEYED}


def keys(overrides: tuple[str, ...] = (), settings: Settings | None = None) -> dict[str, KeyParts]:
    jobs = resolve_jobs(load_recipe("nano", list(overrides)), settings or Settings())
    inputs = {step: {name: f"x@sha256:{digest}" for name, digest in each.items()} for step, each in INPUTS.items()}
    return {row.name: jobs[row.name].parts(inputs[row.name]) for row in KEYED}  # type: ignore[misc]


def redone(now: Mapping[str, KeyParts], before: Mapping[str, KeyParts]) -> set[str]:
    return {step for step in before if now[step].digest() != before[step].digest()}


@pytest.fixture(scope="module")
def before() -> dict[str, KeyParts]:
    return keys()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    for name in ("components", "model", "infra"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "locks"))
    return root


@pytest.fixture(scope="module")
def code_before(pristine: Path) -> dict[str, dict[str, str]]:
    return code(pristine)


@pytest.fixture
def tree(pristine: Path) -> Iterator[Path]:
    """The code to change; what a test changed is undone."""
    yield pristine
    for name in ("components", "model", "infra"):
        shutil.rmtree(pristine / name)
        shutil.copytree(ROOT / name, pristine / name, ignore=shutil.ignore_patterns("__pycache__", "locks"))


def code(root: Path) -> dict[str, dict[str, str]]:
    tree = CodeTree(root)
    by_module = {module: operators(module, tree) for module in {row.module for row in KEYED}}
    return {row.name: by_module[row.module] for row in KEYED}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, f"{path} does not hold {old!r} any more"
    path.write_text(text.replace(old, new))


NOTHING: set[str] = set()


def test_code_that_cannot_change_a_result_redoes_nothing(tree: Path, code_before: dict[str, dict[str, str]]) -> None:
    (tree / "infra" / "prices" / "acme-2026-12.toml").write_text('currency = "USD"\n')
    replace(tree / "infra" / "launch" / "log_excerpt.py", "TAIL_LINES = ", "TAIL_LINES = 5 + ")
    replace(tree / "infra" / "launch" / "run.py", "def run_app(", "def nothing() -> None:\n    pass\n\n\ndef run_app(")
    replace(tree / "infra" / "workers" / "pool.py", "def map_in_processes(", "X = 1\n\n\ndef map_in_processes(")
    (tree / "infra" / "new_module.py").write_text("X = 1\n")
    replace(tree / "components" / "curate" / "page.py", "def curate_page(", "X = 1\n\n\ndef curate_page(")
    (tree / "components" / "report" / "new.py").write_text("X = 1\n")
    (tree / "model" / "unused.py").write_text("X = 1\n")
    assert code(tree) == code_before


def test_words_docstrings_comments_and_formatting_redo_nothing(
    tree: Path, code_before: dict[str, dict[str, str]]
) -> None:
    replace(tree / "components" / "curate" / "step.py", "none of the sources can be decoded", "nothing can be read")
    for path in (tree / "model").rglob("*.py"):
        path.write_text(path.read_text().replace('"""', '"""New words. ', 1) + "\n\n# the end\n")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "-q",
        "--line-length",
        "79",
        "--isolated",
        str(tree / "components"),
    ]
    subprocess.run(command, check=True)
    assert code(tree) == code_before


@pytest.mark.parametrize(
    ("file", "steps"),
    [
        ("model/training/loop.py", TRAININGS),
        ("components/train/worker.py", TRAININGS),
        ("components/curate/cuts.py", {"curate"}),
        ("components/curate/suite.json", {"curate"}),
        ("components/caption/batches.py", {"caption"}),
        ("components/evaluate/metrics/temporal_flicker.py", {"evaluate"}),
        ("model/text/encoders.py", {"encode", "generate"}),
        ("model/sampling/euler.py", {"generate"}),
        ("model/data/loader.py", {*TRAININGS, "generate", "evaluate"}),
        ("model/video.py", {"ingest", "encode", "generate", *TRAININGS}),
        ("infra/references.py", {row.name for row in KEYED}),
        ("infra/datasets/layout.py", {"encode"}),
    ],
)
def test_an_operator_redoes_exactly_its_steps_and_is_named(
    tree: Path, code_before: dict[str, dict[str, str]], file: str, steps: set[str]
) -> None:
    with (tree / file).open("a") as stream:
        stream.write("\nX = 1\n" if file.endswith(".py") else " ")
    now = code(tree)
    assert {step for step in now if now[step] != code_before[step]} == steps
    name = f"zoetrope.{file.removesuffix('.py').replace('/', '.')}"
    if file.endswith(".json"):
        name = "zoetrope." + str(Path(file).parent).replace("/", ".") + "/" + Path(file).name
    for step in steps:
        parts = (KeyParts(step=step, config={}, operators=each[step]) for each in (now, code_before))
        assert differences(*parts) == [f"operator {name} changed"]


def test_code_that_moves_within_infra_redoes_nothing(tree: Path, code_before: dict[str, dict[str, str]]) -> None:
    (tree / "infra" / "workers").rename(tree / "infra" / "hands")
    for path in tree.rglob("*.py"):
        path.write_text(path.read_text().replace("zoetrope.infra.workers", "zoetrope.infra.hands"))
    assert code(tree) == code_before


def test_every_module_of_infra_that_counts_is_there() -> None:
    tree = CodeTree(ROOT)
    assert [name for name in SHAPING_INFRA if tree.module(name) is None] == []


@pytest.mark.parametrize("library", sorted({name for row in KEYED for name in row.libraries}))
def test_a_librarys_version_redoes_exactly_the_steps_that_name_it(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, KeyParts], library: str
) -> None:
    was = versions._installed(library)
    known = versions._installed
    monkeypatch.setattr(versions, "_installed", lambda name: "99.0" if name == library else known(name))
    now = keys()
    assert redone(now, before) == {row.name for row in KEYED if library in row.libraries}
    for step in redone(now, before):
        assert differences(now[step], before[step]) == [f"library {library}: {was} -> 99.0"]


def test_commit_image_price_sheet_provider_and_run_are_in_no_key(before: dict[str, KeyParts]) -> None:
    settings = Settings(
        commit="abc+dirty", image="x@sha256:0", price_sheet="other", run_id="another", namespace="else",
        tracking_uri="http://elsewhere", placements={"stage_1": {"nodes": 9}},
    )  # fmt: skip
    assert redone(keys(settings=settings), before) == NOTHING
    overrides = ("budget_usd=7", "resources.default.cpu=5", "cluster.training_nodes=1", "promote.tolerance=0.5")
    assert redone(keys(overrides), before) == NOTHING


@pytest.mark.parametrize("step", [row.name for row in KEYED if row.inputs])
def test_another_input_redoes_its_step_and_is_named(before: dict[str, KeyParts], step: str) -> None:
    for name in INPUTS[step]:
        now = before[step].model_copy(update={"inputs": INPUTS[step] | {name: "f" * 64}})
        assert now.digest() != before[step].digest()
        assert differences(now, before[step]) == [f"input {name} changed"]


READ_BY_NO_STEP = ("name", "description", "budget_usd", "prices", "resources", "cluster", "promote")
"""Sections of the recipe that no key holds: names, money, places, and what the gate, which always runs, decides by."""
NEUTRAL = ("ingest.workers", "curate.workers", "caption.workers", "encode.workers", "generate.workers")
SECTIONS = {
    "source": {"ingest"}, "ingest": {"ingest"}, "curate": {"curate"}, "caption": {"caption"},
    "autoencoder": {"autoencoder"}, "encode": {"encode"}, "model": STAGES, "stages.stage_1": {"stage_1"},
    "stages.stage_2": {"stage_2"}, "stages.stage_3": {"stage_3"}, "generate": {"generate"}, "evaluate": {"evaluate"},
}  # fmt: skip


def expected(path: str) -> set[str]:
    if path in NEUTRAL or path.split(".", maxsplit=1)[0] in READ_BY_NO_STEP:
        return NOTHING
    if path == "model.pretrained":  # later stages start from the one before
        return {"stage_1"}
    return next(steps for section, steps in SECTIONS.items() if path == section or path.startswith(f"{section}."))


def test_every_field_of_the_recipe_redoes_exactly_the_steps_that_read_it_and_is_named(
    before: dict[str, KeyParts],
) -> None:
    recipe = load_recipe("nano")
    values = recipe.model_dump(mode="json")
    fields = list(leaves(values))
    assert len(fields) > 200
    neutral = {step: job.neutral for step, job in resolve_jobs(recipe, Settings()).items()}
    wrong = []
    for path in fields:
        configs = step_configs(Changed(values, path))  # type: ignore[arg-type]
        now = {}
        for step, parts in before.items():
            config = configs[step]
            for each in neutral[step]:
                config = dropped(config, each)
            now[step] = parts.model_copy(update={"config": config})
        steps = redone(now, before)
        leaf = path.rpartition(".")[2]
        named = all(leaf in phrase for step in steps for phrase in differences(now[step], before[step]))
        counted = all(len(differences(now[step], before[step])) == 1 for step in steps)
        if steps != expected(path) or not named or not counted:
            wrong.append((path, steps, [differences(now[step], before[step]) for step in steps]))
    assert wrong == []


class Changed:
    """A recipe of which one field has another value."""

    def __init__(self, values: dict[str, Any], path: str) -> None:
        self.values, self.path = values, path.split(".")

    def model_dump(self, mode: str) -> dict[str, Any]:
        return set_at(self.values, self.path)


def set_at(values: Any, path: list[str]) -> Any:
    if not path:
        return "changed" if not isinstance(values, str) else values + "x"
    return {key: set_at(value, path[1:]) if key == path[0] else value for key, value in values.items()}


def leaves(values: Any, path: str = "") -> Iterator[str]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


def dropped(config: dict[str, Any], path: str) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    if not rest:
        return {key: value for key, value in config.items() if key != first}
    return {key: dropped(value, rest) if key == first else value for key, value in config.items()}
