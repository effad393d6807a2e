"""What there is to begin: the files of each kind, the table that it stands in, and what a person does next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zoetrope.infra.setup.scaffold.tables import add_filter, add_metric, add_step


@dataclass(frozen=True)
class Kind:
    """One kind of part.

    Attributes:
        folder: of its templates.
        files: template -> path in a checkout, with `$name` for the name.
        table: the file in which it is registered.
        register: text of the table, values for templates -> text with the new part.
        modules: globs of the modules whose words a name may not repeat: it becomes a field, a column or a section
            beside them.
        test: what to run first.
        then: what is left to do, a line each.
    """

    folder: str
    files: Mapping[str, str]
    table: str
    register: Callable[[str, Mapping[str, str]], str]
    modules: tuple[str, ...]
    test: str
    then: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "step": Kind(
        folder="step",
        files={
            "init": "components/$name/__init__.py",
            "config": "components/$name/config.py",
            "step": "components/$name/step.py",
            "component": "components/$name/component.py",
            "readme": "components/$name/README.md",
            "test": "tests/components/$name/test_$name.py",
        },
        table="pipelines/definition/step_table.py",
        register=add_step,
        modules=("pipelines/definition/*.py", "pipelines/recipe/*.py"),
        test="tests/components/$name",
        then=(
            "change `change` in components/$name/step.py, config.py and README.md beside it",
            "change its row where it takes or makes other products, or stands elsewhere in the run",
            "make golden",
            "name it in the tests that name every step: test_step_table.py, test_invalidation.py and test_new_step.py "
            "in tests/pipelines/definition",
        ),
    ),
    "filter": Kind(
        folder="filter",
        files={
            "filter": "components/curate/filters/$name.py",
            "test": "tests/components/curate/test_filter_$name.py",
        },
        table="components/curate/filters/__init__.py",
        register=add_filter,
        modules=("components/curate/*.py", "components/curate/filters/*.py"),
        test="tests/components/curate/test_filter_$name.py",
        then=(
            "change `score` in components/curate/filters/$name.py and what it says about it",
            "say between which values its column lies in components/curate/suite.json",
        ),
    ),
    "metric": Kind(
        folder="metric",
        files={
            "metric": "components/evaluate/metrics/$name.py",
            "test": "tests/components/evaluate/test_metric_$name.py",
        },
        table="components/evaluate/metrics/__init__.py",
        register=add_metric,
        modules=("components/evaluate/*.py", "components/evaluate/metrics/*.py"),
        test="tests/components/evaluate/test_metric_$name.py",
        then=(
            "change `_measure` in components/evaluate/metrics/$name.py and what it says about it",
            "describe it in components/evaluate/README.md",
        ),
    ),
}
