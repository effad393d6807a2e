"""The locks of the images: the versions of the one lock, hashed, without a host, and with all that the code imports."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from zoetrope.infra.keys.closure import DATA_SUFFIXES

ROOT = Path(__file__).parents[3]
LOCKS = ROOT / "infra" / "locks"
IMAGE_LOCKS = sorted(path.name for path in LOCKS.glob("*.lock") if path.name != "zoetrope.lock")
NOT_INSTALLED = {"flash_attn", "zoetrope"}  # an extra that is compiled where it is wanted, and we ourselves


def packages(name: str) -> dict[str, str]:
    text = (LOCKS / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE))


def imported(*roots: str) -> dict[str, str]:
    """Top-level name of every package of others -> a file that imports it."""
    found: dict[str, str] = {}
    for path in (each for root in roots for each in sorted((ROOT / root).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found.update({name.split(".")[0]: str(path.relative_to(ROOT)) for name in names})
    return {name: place for name, place in found.items() if name not in {*sys.stdlib_module_names, *NOT_INSTALLED}}


def missing(names: dict[str, str], installed: dict[str, str]) -> dict[str, str]:
    known = packages_distributions()
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in installed}
    return {
        name: place
        for name, place in names.items()
        if not any(re.sub(r"[-_.]+", "-", each).lower() in normal for each in known.get(name, [name]))
    }


@pytest.mark.parametrize("name", [name for name in IMAGE_LOCKS if name.startswith("image-")])
def test_a_version_is_that_of_the_one_lock(name: str) -> None:
    one = packages("zoetrope.lock")
    found = packages(name)
    assert found
    assert {each: version for each, version in found.items() if one.get(each, version) != version} == {}


@pytest.mark.parametrize("name", IMAGE_LOCKS)
def test_a_lock_is_hashed_and_names_no_host(name: str) -> None:
    text = (LOCKS / name).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", text[text.index("\n", text.index("make lock")) + 1 :])
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"https?://|index-url|find-links| @ ", text)


def test_core_and_tracking_carry_no_torch() -> None:
    heavy = re.compile(r"torch|triton|nvidia-.*|cuda-.*|transformers|tokenizers")
    assert [name for name in packages("image-core.lock") if heavy.fullmatch(name)] == []
    assert [name for name in packages("image-tracking.lock") if heavy.fullmatch(name)] == []


def test_torch_is_installed_once_below_both_environments() -> None:
    layer = {name for name in packages("image-torch.lock") if re.match(r"(torch$|triton$|nvidia-|cuda-)", name)}
    assert {"torch", "triton", "nvidia-nccl-cu13"} <= layer
    assert packages("image-torch.lock")["torch"] == "2.13.0"
    assert layer & set(packages("image-train.lock")) == set()
    assert layer & set(packages("vbench.lock")) == set()


def test_the_environments_hold_what_their_code_imports() -> None:
    assert missing(imported("infra", "pipelines"), packages("image-core.lock")) == {}
    train = {**packages("image-train.lock"), **packages("image-torch.lock")}
    assert missing(imported("infra", "pipelines", "components", "model"), train) == {}
    # what components import beyond `core` is what runs in `train` only
    assert set(missing(imported("components"), packages("image-core.lock"))) <= {"torch", "safetensors", "transformers"}


def test_the_images_install_every_data_file_beside_the_code(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    command += ["build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    files = [path for root in ("components", "pipelines", "model", "infra") for path in (ROOT / root).rglob("*")]
    wanted = {str(path.relative_to(ROOT)) for path in files if path.suffix in DATA_SUFFIXES}
    wanted = {name for name in wanted if not name.startswith("pipelines/compiled/")}  # golden YAML, not run
    assert "pipelines/recipes/nano.yaml" in wanted
    wanted.add("infra/locks/zoetrope.lock")  # versions of what is not installed where a step only launches
    assert {name for name in wanted if not (tmp_path / "lib" / "zoetrope" / name).exists()} == set()
