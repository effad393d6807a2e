"""Losses, gradient norms and digests are what they were, to the last digit."""

import pytest

from tests.golden import compute, files
from tests.golden.files import AGAIN, cpu_type, difference


def said(old, new):
    lines = difference(old, new)
    return "\n".join([*lines, AGAIN]) if lines else ""


def test_what_no_cpu_changes():
    assert said(files.read(files.ANYWHERE), compute.anywhere()) == ""


def test_the_versions_are_those_that_the_numbers_were_computed_with():
    assert said({"libraries": files.known()["libraries"]}, {"libraries": files.libraries()}) == ""


@pytest.mark.parametrize("part", compute.PARTS)
def test_the_numbers_of_this_type_of_cpu(part, tmp_path):
    expected = files.known()[part]
    with compute.as_a_worker():
        assert said({part: expected}, {part: compute.PARTS[part](tmp_path / "work")}) == ""


def test_a_type_of_cpu_is_named_by_what_kernels_are_chosen_by():
    intel = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 fma avx512f avx512_vnni amx_tile xsave\n"
    assert cpu_type(intel).split("-", 1)[1] == "intel-avx2-fma-avx512f-avx512_vnni-amx_tile"
    assert cpu_type("vendor_id : AuthenticAMD\nflags : avx2 fma").split("-", 1)[1] == "amd-avx2-fma"
    assert cpu_type("").endswith("-unknown")


def test_a_difference_names_each_number():
    old = {"a": {"loss": [1.0, 2.0], "gone": 1}, "same": "x"}
    new = {"a": {"loss": [1.0, 2.5]}, "same": "x", "more": 3}
    assert difference(old, new) == ["- a.gone: 1", "! a.loss[1]: 2.0 -> 2.5", "+ more: 3"]
