"""Recipes: overrides, and errors that name key, place and the nearest valid key."""

from pathlib import Path

import pytest
from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.recipe.files import apply_overrides, find_recipe, merge, read_layers, recipe_names, validate


class Inner(StrictModel):
    steps: int = Field(1, ge=1)
    rate: float = 0.5


class Outer(StrictModel):
    name: str
    inner: Inner = Inner()
    items: tuple[Inner, ...] = ()


def test_overrides_are_read_as_yaml_and_reach_inner_keys() -> None:
    values: dict[str, object] = {"name": "x", "inner": {"steps": 2}}
    places = apply_overrides(values, ["inner.steps=7", "items=[{steps: 3}]", "name='8'"])
    model = validate(Outer, values, places)
    assert (model.inner.steps, model.items[0].steps, model.name) == (7, 3, "8")


@pytest.mark.parametrize(
    ("overrides", "headline", "hint"),
    [
        (["inner.stepz=7"], "--set inner.stepz=7: unknown key inner.stepz", "did you mean 'steps'?"),
        (["inner.steps=many"], "--set inner.steps=many: inner.steps must be a valid integer", ""),
        (["inner.steps=0"], "inner.steps must be greater than or equal to 1, not 0", ""),
        (["name.first=1"], "name has no keys below it", "set name itself"),
        (["inner.steps"], "is not path=value", "e.g. --set"),
        (["items=[{stepz: 1}]"], "unknown key items.0.stepz", "did you mean 'steps'?"),
    ],
)
def test_a_wrong_override_is_named(overrides: list[str], headline: str, hint: str) -> None:
    values: dict[str, object] = {"name": "x", "inner": {}}
    with pytest.raises(ZoetropeError) as caught:
        validate(Outer, values, apply_overrides(values, overrides))
    assert headline in caught.value.headline
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_wrong_key_in_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\ninner:\n  steps: 1\n  rat: 0.1\n")
    ((values, places),) = read_layers(str(path))
    with pytest.raises(ZoetropeError) as caught:
        validate(Outer, values, places)
    assert caught.value.headline == "mine.yaml:4: unknown key inner.rat"
    assert caught.value.hint == "did you mean 'rate'?"


def test_one_extends_merges_and_two_are_refused(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\ninner: {steps: 3, rate: 0.1}\n")
    (tmp_path / "child.yaml").write_text("extends: base.yaml\nname: child\ninner: {steps: 4}\n")
    (tmp_path / "grandchild.yaml").write_text("extends: child.yaml\n")
    (below, _), (above, _) = read_layers(str(tmp_path / "child.yaml"))
    assert merge(below, above) == {"name": "child", "inner": {"steps": 4, "rate": 0.1}}
    with pytest.raises(ZoetropeError, match="extends another recipe"):
        read_layers(str(tmp_path / "grandchild.yaml"))


def test_an_unknown_recipe_names_the_nearest() -> None:
    assert "nano" in recipe_names()
    with pytest.raises(ZoetropeError) as caught:
        find_recipe("nanno")
    assert "did you mean 'nano'?" in caught.value.hint


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\ninner: [1,\n")
    with pytest.raises(ZoetropeError, match=r"broken.yaml:3: not valid YAML"):
        read_layers(str(path))
