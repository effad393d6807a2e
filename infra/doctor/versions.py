"""Is the platform there, and new enough?"""

from __future__ import annotations

from collections.abc import Iterator

from zoetrope.infra.doctor.findings import APPLY_HINT, CheckContext, Finding, ok, problem, unknown
from zoetrope.infra.kubeflow import health
from zoetrope.infra.kubeflow.health import OLDEST as OLDEST_PIPELINES
from zoetrope.infra.kubeflow.health import version_numbers
from zoetrope.infra.kubernetes.errors import NotAllowedError

OLDEST_KUBERNETES = (1, 31)
PLATFORM_HINT = "install what manifests/platform names, see docs/how-to/cluster.md"

APIS: dict[str, tuple[str, ...]] = {
    "trainer.kubeflow.org/v1alpha1": ("trainjobs", "trainingruntimes"),
    "jobset.x-k8s.io/v1alpha2": ("jobsets",),
    "argoproj.io/v1alpha1": ("workflows",),
}
"""API -> resources that their CRDs bring."""

CONTROLLERS: dict[str, tuple[str, tuple[int, int]]] = {
    "Trainer": ("kubeflow-trainer-controller-manager", (2, 3)),
    "JobSet": ("jobset-controller-manager", (0, 10)),
    "Argo": ("workflow-controller", (3, 7)),
}
"""What it is called -> (name of its deployment, oldest version)."""


def kubernetes(context: CheckContext) -> Finding:
    """The API server answers and is new enough."""
    found = context.kubernetes.get("/version") or {}
    version = str(found.get("gitVersion", ""))
    numbers = version_numbers(version)
    if numbers and numbers < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        return problem("kubernetes", f"version {version} is too old", f"upgrade to {oldest} or newer")
    return ok("kubernetes", version or "answers")


def namespace(context: CheckContext) -> Finding:
    """The namespace is there."""
    try:
        found = context.kubernetes.get(f"/api/v1/namespaces/{context.namespace}")
    except NotAllowedError:
        return unknown("namespace", f"no right to read the namespace {context.namespace}")
    if found is None:
        return problem("namespace", f"there is no namespace {context.namespace}", f"give --namespace, or {APPLY_HINT}")
    return ok("namespace", context.namespace)


def custom_resources(context: CheckContext) -> Iterator[Finding]:
    """The CRDs that runs need, by discovery, which everybody may read."""
    for api, resources in APIS.items():
        found = context.kubernetes.get(f"/apis/{api}") or {}
        there = {str(each["name"]) for each in found.get("resources", [])}
        missing = [name for name in resources if name not in there]
        if missing:
            yield problem("custom resources", f"missing CRD: {missing[0]} of {api}", PLATFORM_HINT)
        else:
            yield ok("custom resources", f"{', '.join(resources)} of {api}")


def controllers(context: CheckContext) -> Iterator[Finding]:
    """Versions of the controllers, by the images of their deployments."""
    try:
        deployments = (context.kubernetes.get("/apis/apps/v1/deployments") or {}).get("items", [])
    except NotAllowedError as error:
        yield unknown("controllers", error.headline)
        return
    for name, (deployment, oldest) in CONTROLLERS.items():
        found = [each for each in deployments if each["metadata"]["name"] == deployment]
        if not found:
            yield problem("controllers", f"{name}: no deployment {deployment}", PLATFORM_HINT)
            continue
        yield _controller(name, found[0], oldest)


def _controller(name: str, deployment: dict[str, object], oldest: tuple[int, int]) -> Finding:
    template = deployment["spec"]["template"]  # type: ignore[index]
    tag = str(template["spec"]["containers"][0]["image"]).partition("@")[0].rpartition(":")[2]
    numbers = version_numbers(tag)
    ready = deployment.get("status", {}).get("readyReplicas", 0)  # type: ignore[attr-defined]
    if not ready:
        return problem("controllers", f"{name} {tag}: not ready", "look at it with `kubectl describe deployment`")
    if numbers and numbers < oldest:
        return problem(
            "controllers", f"{name} {tag} is too old", f"zoetrope needs {'.'.join(map(str, oldest))} or newer"
        )
    return ok("controllers", f"{name} {tag}")


def pipelines(context: CheckContext) -> Finding:
    """Kubeflow Pipelines answers and is new enough; what it does not say, its install settings may."""
    if context.kubeflow is None:
        return unknown("kubeflow pipelines", "no host named", "give --host URL")
    found = health(context.kubeflow.checked())
    version = found.version or _installed(context)
    numbers = version_numbers(version)
    if numbers and numbers < OLDEST_PIPELINES:
        return problem("kubeflow pipelines", f"version {version} is too old", PLATFORM_HINT)
    users = "multi-user" if found.multi_user else "single user"
    return ok("kubeflow pipelines", f"{version or 'of unknown version'}, {users}")


def _installed(context: CheckContext) -> str:
    try:
        settings = context.kubernetes.get("/api/v1/namespaces/kubeflow/configmaps/pipeline-install-config") or {}
    except Exception:  # noqa: BLE001 - a mere addition: the server itself answered
        return ""
    return str(settings.get("data", {}).get("appVersion", ""))
