"""The user-facing error on its way between processes."""

import pickle

from zoetrope.infra.errors import ServiceError, ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store.access import DamagedContentError


def test_an_error_of_a_worker_arrives_whole() -> None:
    reference = Reference("objects/ab/abcd.json", "ab" * 32)
    errors = [
        ZoetropeError("place: reason", "next step", retryable=True),
        ServiceError("place: reason", "next step", status=409, retryable=True),
        DamagedContentError("file:///store/objects/ab/abcd.json", reference, "encode"),
    ]
    for error in errors:
        arrived = pickle.loads(pickle.dumps(error))
        assert type(arrived) is type(error)
        assert (str(arrived), arrived.exit_code, vars(arrived)) == (str(error), error.exit_code, vars(error))
