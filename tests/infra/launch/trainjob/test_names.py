"""Names and labels that Kubernetes and Trainer take."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.launch.trainjob import names

NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
LABEL = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
WORDS = st.text(max_size=80)


@given(WORDS, WORDS, WORDS)
def test_names_of_jobs_are_valid_and_stay_the_same(run, step, iteration):
    name = names.job_name(run, step, iteration)
    assert names.check_name(name) == names.job_name(run, step, iteration)
    assert 11 <= len(name) <= 40


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), unique=True, min_size=2, max_size=5))
def test_other_jobs_have_other_names(jobs):
    assert len({names.job_name(*job) for job in jobs}) == len(jobs)


@given(WORDS)
def test_names_from_apps_are_valid_and_unique(text):
    first, second = names.unique_name(text), names.unique_name(text)
    assert names.check_name(first) != names.check_name(second)


@pytest.mark.parametrize("name", ["", "1a", "a-", "A", "a.b", "a" * 41])
def test_other_names_are_refused(name):
    with pytest.raises(ZoetropeError, match="TrainJob name"):
        names.check_name(name)


@given(WORDS)
def test_labels_are_valid(text):
    assert re.fullmatch(LABEL, names.label_value(text))


@given(st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True))
def test_valid_labels_stay_as_they_are(text):
    assert names.label_value(text) == text


@given(st.lists(st.text(max_size=70), unique=True, min_size=2, max_size=4))
def test_other_texts_are_other_labels(texts):
    assert len({names.label_value(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("name", sorted(names.RESERVED_ENVIRONMENT))
def test_what_trainer_sets_itself_is_refused(name):
    with pytest.raises(ZoetropeError, match=name):
        names.check_environment({"A", name})


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B"])
def test_what_is_no_variable_is_refused(name):
    with pytest.raises(ZoetropeError, match="no name of a variable"):
        names.check_environment({name})
