"""The one table of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zoetrope.infra.doctor import inside, local, objects, quotas, rights, services, versions
from zoetrope.infra.doctor.findings import CheckContext, Finding, unknown
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.errors import NotAllowedError

CheckFunction = Callable[[CheckContext], Finding | Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One check of a cluster.

    Attributes:
        run: makes the findings.
        kubernetes: whether it needs the Kubernetes API.
        before_submit: whether a submission stops where it finds a problem.
        creates: whether it creates something for a short while.
    """

    run: CheckFunction
    kubernetes: bool = True
    before_submit: bool = False
    creates: bool = False


CHECKS: dict[str, Check] = {
    "kubernetes": Check(versions.kubernetes, before_submit=True),
    "namespace": Check(versions.namespace, before_submit=True),
    "custom resources": Check(versions.custom_resources, before_submit=True),
    "controllers": Check(versions.controllers),
    "kubeflow pipelines": Check(versions.pipelines, kubernetes=False),
    "our rights": Check(rights.ours),
    "service accounts": Check(objects.service_accounts, before_submit=True),
    "rights of the steps": Check(rights.steps),
    "settings": Check(objects.settings, before_submit=True),
    "secrets": Check(objects.secrets),
    "runtimes": Check(objects.runtimes, before_submit=True),
    "quotas": Check(quotas.quotas, before_submit=True),
    "limit ranges": Check(quotas.limit_ranges, before_submit=True),
    "nodes": Check(quotas.nodes),
    "images": Check(services.images, kubernetes=False, before_submit=True),
    "mlflow": Check(services.mlflow),
    "inside": Check(inside.inside, creates=True),
}
LOCAL_CHECKS: dict[str, Callable[[Path], Finding | Iterable[Finding]]] = {
    "python": local.python,
    "disk": local.disk,
    "memory": local.memory,
    "tools": local.tools,
    "torch": local.torch,
}


def examine(context: CheckContext, *, before_submit: bool = False) -> Iterator[Finding]:
    """Runs the checks in order; a fault of one is its finding and stops no other.

    Args:
        context: what to look at.
        before_submit: only what a submission stops at; creates nothing.
    """
    silent: ZoetropeError | None = None
    for name, check in CHECKS.items():
        if before_submit and not check.before_submit:
            continue
        if check.kubernetes and silent is not None:
            yield unknown(name, "needs the Kubernetes API")
            continue
        try:
            yield from _listed(check.run(context))
        except NotAllowedError as error:
            yield unknown(name, error.headline, error.hint)
        except ZoetropeError as error:
            yield Finding(name, "problem", error.headline, error.hint)
            if name == "kubernetes":
                silent = error


def examine_here(state: Path) -> Iterator[Finding]:
    """The checks of this machine; `state` is the state directory of local runs."""
    for look in LOCAL_CHECKS.values():
        yield from _listed(look(state))


def _listed(found: Finding | Iterable[Finding]) -> Iterator[Finding]:
    yield from [found] if isinstance(found, Finding) else found
