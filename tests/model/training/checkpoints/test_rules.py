"""What is kept, what counts as the same training, and where a local store writes."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoetrope.model.training.checkpoints import Identity, LocalCheckpointStore, Retention, StoreError, UnreadableError
from zoetrope.model.training.checkpoints.format import Place

LOSSES = st.dictionaries(st.integers(0, 40), st.none() | st.floats(allow_nan=True), min_size=1)


@given(LOSSES, st.integers(1, 4), st.integers(0, 5), st.integers(0, 4))
def test_retention_is_the_union_of_its_three_rules(losses, last, every, best):
    complete = {Place(step, "0" * 12, "0" * 8): loss for step, loss in losses.items()}
    kept = {place.step for place in Retention(last, every, best).kept(complete)}
    assert max(losses) in kept
    measured = sorted((loss, -step) for step, loss in losses.items() if loss is not None and loss == loss)
    wanted = set(sorted(losses)[-last:]) | {-step for _, step in measured[:best]}
    wanted |= {step for step in losses if every and step % every == 0}
    assert kept == wanted


@pytest.mark.parametrize(
    ("values", "said"), [({"last": 0}, "at least 1"), ({"every": -1}, "below 0"), ({"best": -2}, "0")]
)
def test_retention_refuses_what_keeps_nothing(values, said):
    with pytest.raises(ValueError, match=said):
        Retention(**values)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.floats(0, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abcd"), JSON), st.dictionaries(st.sampled_from("abcd"), JSON))
def test_the_digest_and_the_difference_agree(left, right):
    one, two = Identity(left), Identity(right)
    assert (one.digest == two.digest) == (one.difference(two.fields) == "")


@given(st.dictionaries(st.sampled_from("abcd"), JSON), JSON)
def test_what_may_change_does_not_count(config, value):
    one = Identity({**config, "stage": {"steps": value, "rate": 1}}, {"stage.steps"})
    two = Identity({**config, "stage": {"steps": 7, "rate": 1}}, {"stage.steps"})
    assert one.digest == two.digest


def test_the_difference_names_fields_on_both_sides():
    now = Identity({"a": 1, "b": {"c": [1], "d": 2}, "new": True})
    before = Identity({"a": 2, "b": {"c": [1]}, "old": "x"})
    assert (
        now.difference(before.fields) == "a was 2, now 1; b.d was absent, now 2; new was absent, now true; and 1 more"
    )


@pytest.mark.parametrize("path", ["stage.step", "steps", "stage.steps.more"])
def test_a_misspelt_path_is_refused(path):
    with pytest.raises(ValueError, match=f"{path} is not in the configuration"):
        Identity({"stage": {"steps": 1}}, {path})


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b", "a//b", "a/.", "..", "a/"])
def test_a_key_that_leaves_the_folder_is_refused(tmp_path, key):
    store = LocalCheckpointStore(tmp_path)
    for call in (lambda: store.put(key, b"x"), lambda: store.read(key), lambda: store.delete(key)):
        with pytest.raises(ValueError, match="leaves its folder or is empty"):
            call()


def test_a_local_store_reads_ranges_lists_and_removes(tmp_path):
    store = LocalCheckpointStore(tmp_path)
    assert store.sizes("a") == {}
    store.put("a/b/one", b"0123456789")
    store.put("a/b/one", memoryview(b"abcdefg"))
    store.put("ab/two", b"")
    assert [store.read("a/b/one"), store.read("a/b/one", 2, 3), store.read("a/b/one", 5, 9)] == [
        b"abcdefg",
        b"cde",
        b"fg",
    ]
    assert store.sizes("a") == {"a/b/one": 7}
    store.delete("a/b/one")
    store.delete("a/b/one")
    assert store.sizes("a") == {}
    with pytest.raises(UnreadableError, match="a/b/one"):
        store.read("a/b/one")


def test_a_put_that_fails_leaves_the_former_object_and_no_part(tmp_path, monkeypatch):
    store = LocalCheckpointStore(tmp_path)
    store.put("a/one", b"former")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zoetrope.model.training.checkpoints.store.os.fsync", full)
    with pytest.raises(StoreError, match=r"disk full: 0\.0 MB needed in .*, .* MB free"):
        store.put("a/one", b"latter")
    assert store.read("a/one") == b"former"
    assert store.sizes("a") == {"a/one": 6}
