"""Maps the folders at the root to the namespace package `zoetrope` (ADR 0001)."""

from setuptools import find_packages, setup

ROOTS = ("components", "pipelines", "model", "infra")

setup(
    packages=[f"zoetrope.{name}" for name in find_packages(".") if name.split(".")[0] in ROOTS],
    package_dir={f"zoetrope.{root}": root for root in ROOTS},
    package_data={
        "": ["*.yaml", "*.json", "*.toml", "*.html", "*.css", "*.js", "py.typed"],
        # folders without code, which are no packages
        # pods look up in it the versions of libraries that only their jobs have (infra/keys/versions.py)
        "zoetrope.infra": ["locks/zoetrope.lock", "setup/scaffold/templates/*/*.txt"],
        "zoetrope.model": ["configs/*.yaml", "configs/*/*.yaml"],
        "zoetrope.pipelines": ["recipes/*.yaml"],
    },
)
