"""May we, and may the steps, do what a run needs?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoetrope.infra.doctor.findings import APPLY_HINT, CheckContext, Finding, ok, problem, unknown
from zoetrope.infra.kubernetes.errors import NotAllowedError

Right = tuple[str, str, str]
"""(verb, API group, resource); a subresource follows a slash."""

OURS: tuple[Right, ...] = (
    ("list", "", "pods"),
    ("get", "", "pods/log"),
    ("list", "trainer.kubeflow.org", "trainjobs"),
    ("get", "argoproj.io", "workflows"),
)
"""What `runs logs` and the checks need."""

STEPS: tuple[Right, ...] = (
    ("create", "trainer.kubeflow.org", "trainjobs"),
    ("get", "trainer.kubeflow.org", "trainjobs"),
    ("list", "trainer.kubeflow.org", "trainjobs"),
    ("watch", "trainer.kubeflow.org", "trainjobs"),
    ("patch", "trainer.kubeflow.org", "trainjobs"),
    ("delete", "trainer.kubeflow.org", "trainjobs"),
    ("get", "trainer.kubeflow.org", "trainingruntimes"),
    ("list", "", "pods"),
    ("get", "", "pods/log"),
    ("list", "", "events"),
    ("watch", "argoproj.io", "workflows"),
    ("create", "argoproj.io", "workflowtaskresults"),
    ("patch", "argoproj.io", "workflowtaskresults"),
)
"""What the pods of steps need: manifests/base grants it to the service account."""


def ours(context: CheckContext) -> Iterator[Finding]:
    """Our own rights, by SelfSubjectAccessReview."""
    denied = [right for right in OURS if not _allowed(context, "selfsubjectaccessreviews", _spec(context, right))]
    for right in denied:
        yield problem(
            "our rights", f"may not {_words(right)}", f"ask for the role kubeflow-view in {context.namespace}"
        )
    if not denied:
        yield ok("our rights", f"{len(OURS)} of {len(OURS)} in {context.namespace}")


def steps(context: CheckContext) -> Iterator[Finding]:
    """The rights of the steps' service account, by SubjectAccessReview."""
    user = f"system:serviceaccount:{context.namespace}:{context.service_account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{context.namespace}", "system:authenticated"]
    try:
        denied = [
            right
            for right in STEPS
            if not _allowed(context, "subjectaccessreviews", _spec(context, right) | {"user": user, "groups": groups})
        ]
    except NotAllowedError:
        yield unknown("rights of the steps", "no right to ask (create subjectaccessreviews)", "ask an administrator")
        return
    for right in denied:
        yield problem("rights of the steps", f"{context.service_account} may not {_words(right)}", APPLY_HINT)
    if not denied:
        yield ok("rights of the steps", f"{len(STEPS)} of {len(STEPS)} of {context.service_account}")


def _allowed(context: CheckContext, kind: str, spec: dict[str, Any]) -> bool:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    body["kind"] = "SelfSubjectAccessReview" if kind.startswith("self") else "SubjectAccessReview"
    answer = context.kubernetes.post(f"/apis/authorization.k8s.io/v1/{kind}", body)
    return bool(answer["status"].get("allowed"))


def _spec(context: CheckContext, right: Right) -> dict[str, Any]:
    verb, group, name = right
    resource, _, subresource = name.partition("/")
    attributes = {"namespace": context.namespace, "verb": verb, "group": group, "resource": resource}
    return {"resourceAttributes": attributes | ({"subresource": subresource} if subresource else {})}


def _words(right: Right) -> str:
    verb, group, resource = right
    return f"{verb} {resource}" + (f" of {group}" if group else "")
