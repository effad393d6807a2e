"""A store for another cloud is a module of its own and one line of a table; nothing else is touched."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.scratch import ROOT, ask, copy_code, insert_before

MODULE = ROOT / "tests" / "fixtures" / "pile_store.py"
LINE = """    "pile": Scheme(
        "zoetrope.infra.store.pile", "pile://name", settings=("PILE_FOLDER",), secrets=("PILE_SECRET",)
    ),
"""
BEFORE = '    "s3": Scheme(\n'
ASKED = """
import json, sys, time
from pathlib import Path
from zoetrope.infra.context import StepContext
from zoetrope.infra.datasets.layout import repository_files
from zoetrope.infra.gc import Places, collect_garbage
from zoetrope.infra.references import Reference
from zoetrope.infra.store import (
    get_bytes, get_json, local_copy, local_folder, open_store, put_content, put_file_content, put_json
)
from zoetrope.infra.store.base import Store
from zoetrope.infra.workers import map_units
from zoetrope.pipelines.cli.submit import _SOURCE
from zoetrope.pipelines.definition.inputs import RunInputs, resolved
from zoetrope.pipelines.definition.pod_spec import SETTINGS_KEYS, STORE_KEYS
import fan_out_functions as functions

here = Path(sys.argv[1])
store: Store = open_store("pile://models/zoetrope")
kept = put_json(store, {"weights": str(put_content(store, b"weights", ".bin"))})
(here / "text.txt").write_text("words")
text = put_file_content(store, here / "text.txt")
folder = local_folder(store, {"a/b.txt": str(text)}, here / "folder")
copy = local_copy(store, get_json(store, kept)["weights"], here / "copies")
store.put_bytes("runs/r/record.json", json.dumps({"product": str(kept)}).encode())
context = StepContext("count", store, here / "work", here / "run")
(here / "work").mkdir()
answers = list(map_units(functions.square, [functions.Number(n) for n in range(4)], context, 2))
places = Places(open_store(store.root), here / "scratch", here / "state")
removed = collect_garbage(places, -60).removed
print(json.dumps({
    "place": sys.modules["zoetrope.infra"].__path__[0],
    "reference": str(kept),
    "copy": copy.read_text(),
    "folder": (folder / "a" / "b.txt").read_text(),
    "squares": [answer.square for answer in answers],
    "there": get_bytes(store, kept).decode(),
    "removed": removed,
    "left": sorted(store.key(uri).partition("/")[0] for uri in store.list("")),
    "settings": SETTINGS_KEYS, "secrets": STORE_KEYS,
    "source": [bool(_SOURCE.fullmatch(text)) for text in ("pile://films/a", "heap://films/a")],
    "recipe": resolved("nano", RunInputs(source="pile://films/a")).source.s3,
    "dvc": repository_files(here, store)[".dvc/config"].decode().splitlines()[-1].strip(),
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the code with the new store says, in a process of its own."""
    root = tmp_path_factory.mktemp("scratch")
    code = copy_code(root)
    shutil.copy(MODULE, code / "infra" / "store" / "pile.py")
    insert_before(code / "infra" / "store" / "schemes.py", BEFORE, LINE)
    (root / "here").mkdir()
    variables = {
        "PYTHONPATH": str(ROOT / "tests" / "infra" / "workers"),
        "PILE_FOLDER": str(root / "far away"),
        "PILE_SECRET": "open sesame",
    }
    return ask(root, ASKED, str(root / "here"), variables=variables)


def test_content_goes_there_and_comes_back(found: dict[str, Any]) -> None:
    assert found["reference"].startswith("objects/")
    assert found["there"].startswith('{"weights":"objects/')
    assert (found["copy"], found["folder"]) == ("weights", "words")


def test_workers_in_other_processes_use_it(found: dict[str, Any]) -> None:
    assert found["squares"] == [0, 1, 4, 9]


def test_garbage_collection_works_on_it(found: dict[str, Any]) -> None:
    # the text file and what the four units wrote
    assert found["removed"] == {"objects": [5, len("words") + 4]}
    assert found["left"] == ["objects", "objects", "runs"]


def test_pods_sources_and_the_data_registry_know_it(found: dict[str, Any]) -> None:
    assert {"PILE_FOLDER", "ZOETROPE_S3_ENDPOINT"} <= set(found["settings"])
    assert set(found["secrets"]) == {"PILE_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert found["source"] == [True, False]
    assert found["recipe"] == "pile://films/a"
    assert found["dvc"] == "url = pile://models/zoetrope/dvc"
