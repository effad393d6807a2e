"""The Dockerfile, read as text: what each target is made of, and as whom it runs."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from zoetrope.infra.images.build import IMAGES, PRODUCT

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "infra" / "images" / "Dockerfile").read_text(encoding="utf-8")
TARGETS = [image.name for image in PRODUCT]


@dataclass
class Stage:
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def read_stages() -> dict[str, Stage]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
    stages: dict[str, Stage] = {}
    current = Stage("")
    for line in joined.splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            current = stages[name] = Stage(base)
        elif keyword:
            current.steps.append((keyword, rest.strip()))
    return stages


STAGES = read_stages()


def chain(name: str) -> list[str]:
    """A stage and those that it is built on."""
    return [name, *chain(STAGES[name].base)] if name in STAGES else []


def sources(name: str) -> set[str]:
    """Files and folders of the checkout that go into a stage, also by way of another stage."""
    found: set[str] = set()
    for keyword, rest in (step for stage in chain(name) for step in STAGES[stage].steps):
        if keyword != "COPY":
            continue
        *copied, _ = rest.split()
        if copied[0].startswith("--from="):
            found |= sources(copied[0].removeprefix("--from="))
        else:
            found |= set(copied)
    return found


def last(name: str, keyword: str) -> str:
    return [rest for stage in reversed(chain(name)) for found, rest in STAGES[stage].steps if found == keyword][-1]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_its_program_as_user_1000_without_a_shell(target: str) -> None:
    assert last(target, "USER") == "1000:1000"
    (program,) = json.loads(last(target, "ENTRYPOINT"))
    assert program in {"zoetrope", "mlflow"}


@pytest.mark.parametrize("target", TARGETS)
def test_the_revision_looks_at_all_that_is_copied_and_at_nothing_else(target: str) -> None:
    image = IMAGES[target]
    assert set(image.inputs) == sources(target) | {image.dockerfile, ".dockerignore"}
    assert all((ROOT / name).exists() for name in image.inputs)


@pytest.mark.parametrize("target", ["core", "train", "evaluate"])
def test_zoetrope_comes_last_so_that_a_rebuild_is_one_small_layer(target: str) -> None:
    layers = [step for step in STAGES[target].steps if step[0] in {"RUN", "COPY"}]
    assert layers[-1] == ("COPY", "--from=package /package /opt/zoetrope")
    assert "package" not in chain(STAGES[target].base)


def test_train_and_evaluate_share_torch_and_the_others_have_none() -> None:
    assert [target for target in TARGETS if "torch" in chain(target)] == ["train", "evaluate"]
    assert chain("evaluate")[-3:] == chain("train")[-3:]


def test_whatever_is_installed_is_hashed_or_our_own() -> None:
    steps = [rest for stage in STAGES.values() for keyword, rest in stage.steps if keyword == "RUN"]
    installs = [
        part for step in steps for part in step.split("&&") if re.search(r"\b(pip|uv pip) (install|sync)\b", part)
    ]
    assert len(installs) >= 10
    unhashed = [part for part in installs if "--require-hashes" not in part]
    assert [part.split()[-1] for part in unhashed] == ["/source"]
    assert "--no-deps" in unhashed[0]


@pytest.mark.parametrize("path", ["infra/images/Dockerfile", "tests/e2e/images/postgres/Dockerfile"])
def test_the_base_is_an_argument_and_no_image_is_latest(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    (default,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"[a-z]+:[a-z0-9.-]*bookworm[a-z-]*", default)
    assert "latest" not in text
    assert [line for line in text.splitlines() if line.startswith("FROM") and "BASE_IMAGE" in line]


def test_the_context_holds_all_that_is_copied() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    copied = set().union(*(sources(target) for target in TARGETS))
    assert {name.split("/")[0] for name in copied} == kept
