"""`zoetrope.model` as a library of its own."""

import subprocess
import sys

import pytest

import zoetrope.model

PROGRAM = """
import builtins, sys
allowed = {"torch", "safetensors", "numpy", "einops", "zoetrope"}
installed = builtins.__import__
def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    caller = (globals or {}).get("__name__", "")
    top = name.partition(".")[0]
    if caller.startswith("zoetrope") and level == 0 and top not in allowed | set(sys.stdlib_module_names):
        raise ImportError(f"{caller} imports {name}")
    return installed(name, globals, locals, fromlist, level)
builtins.__import__ = guarded
import zoetrope.model
assert "torch" not in sys.modules
for name in zoetrope.model.__all__:
    getattr(zoetrope.model, name)
"""


def test_its_public_names_need_torch_safetensors_and_numpy_alone():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_every_public_name_has_a_place():
    assert set(zoetrope.model.__all__) == set(zoetrope.model._PLACES)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = zoetrope.model.nothing
