"""Can the images be pulled, and do MLflow and the store answer?"""

from __future__ import annotations

from collections.abc import Iterator

from zoetrope.infra.doctor.findings import APPLY_HINT, CheckContext, Finding, ok, problem, unknown
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.errors import NotAllowedError

MLFLOW = "zoetrope-mlflow:5000"


def images(context: CheckContext) -> Iterator[Finding]:
    """The registry has every image of the lock, asked from here."""
    if not context.images:
        yield unknown("images", "no images.lock", "make one: `make images REGISTRY=host/prefix`, or give --images FILE")
        return
    from zoetrope.infra.images.container_registry import digest_exists

    for name, image in sorted(context.images.items()):
        try:
            there = digest_exists(image)
        except ZoetropeError as error:
            if not error.retryable:
                yield problem("images", error.headline, error.hint)
            else:  # a registry that only the nodes reach; the pod inside tells
                yield unknown("images", f"{name}: {error.headline}")
            continue
        if there:
            yield ok("images", f"{name} {image.rpartition('@')[2][:19]}")
        else:
            yield problem(
                "images", f"{name}: the registry has no {image}", "push it again: `make images REGISTRY=host/prefix`"
            )


def mlflow(context: CheckContext) -> Finding:
    """MLflow answers through the API server's proxy."""
    path = f"/api/v1/namespaces/{context.namespace}/services/{MLFLOW}/proxy/health"
    try:
        answer = context.kubernetes.text(path)
    except NotAllowedError:
        return unknown("mlflow", "no right to use the service proxy; see the check `inside`")
    except ZoetropeError as error:
        return problem(
            "mlflow", f"does not answer: {error.headline}", "look at `kubectl logs deployment/zoetrope-mlflow`"
        )
    if not answer:
        return problem("mlflow", f"there is no service {MLFLOW.partition(':')[0]} in {context.namespace}", APPLY_HINT)
    return ok("mlflow", "answers")
