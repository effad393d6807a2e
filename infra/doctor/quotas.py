"""Does the recipe fit into the namespace's quotas, and its pods onto the nodes?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zoetrope.infra.doctor.findings import CheckContext, Demand, Finding, ok, problem, unknown
from zoetrope.infra.doctor.quantities import number
from zoetrope.infra.kubernetes.errors import NotAllowedError

LAUNCHER = Demand("launcher", 1, cpu=0.05, memory_gb=0.27, cpu_limit=1, memory_limit_gb=2.15)
"""The pod that waits for a job, beside the job's own; asks for 50m and 256Mi and may use one core and 2Gi."""
_TOLERANCE = 1 + 1e-6


def quotas(context: CheckContext) -> Iterator[Finding]:
    """No single step asks for more than a ResourceQuota allows in all."""
    found = context.kubernetes.get(f"/api/v1/namespaces/{context.namespace}/resourcequotas") or {}
    items = [item for item in found.get("items", []) if not item["spec"].get("scopes")]
    for item in items:
        yield _quota(item, context)
    if not items:
        yield ok("quotas", f"none in {context.namespace}")


def _quota(item: Mapping[str, Any], context: CheckContext) -> Finding:
    name = item["metadata"]["name"]
    hard: Mapping[str, str] = item.get("status", {}).get("hard") or item["spec"].get("hard", {})
    for demand in context.demands:
        for resource, needed in _needs(demand).items():
            if resource in hard and needed > number(hard[resource]) * _TOLERANCE:
                return problem(
                    "quotas",
                    f"quota {name} is too small: step {demand.step} needs {_words(resource, needed)}, "
                    f"it allows {_words(resource, number(hard[resource]))}",
                    "raise the quota, or ask for less: --set resources...",
                )
    used: Mapping[str, str] = item.get("status", {}).get("used", {})
    share = max((number(used[key]) / (number(hard[key]) or 1) for key in used if key in hard), default=0.0)
    return ok(
        "quotas", f"{name}: the recipe fits; {share:.0%} in use now" if context.demands else f"{name}: {share:.0%}"
    )


def _needs(demand: Demand) -> dict[str, float]:
    extra = LAUNCHER if demand.runtime else Demand("", 0, 0, 0)
    cpu = demand.pods * demand.cpu + extra.cpu
    most = demand.pods * (demand.cpu_limit or demand.cpu) + extra.cpu_limit
    memory = (demand.pods * demand.memory_gb + extra.memory_gb) * 1e9
    most_memory = (demand.pods * (demand.memory_limit_gb or demand.memory_gb) + extra.memory_limit_gb) * 1e9
    needs = {"pods": float(demand.pods + extra.pods), "count/pods": float(demand.pods + extra.pods)}
    needs |= {"cpu": cpu, "requests.cpu": cpu, "memory": memory, "requests.memory": memory}
    needs |= {"limits.cpu": most, "limits.memory": most_memory}
    return needs | {f"requests.{demand.gpu_resource}": float(demand.pods * demand.gpus)}


def limit_ranges(context: CheckContext) -> Iterator[Finding]:
    """No single container asks for more than a LimitRange allows."""
    found = context.kubernetes.get(f"/api/v1/namespaces/{context.namespace}/limitranges") or {}
    for item in found.get("items", []):
        name = item["metadata"]["name"]
        most: dict[str, str] = {}
        for limit in item["spec"].get("limits", []):
            if limit.get("type") in ("Container", "Pod"):
                most |= limit.get("max") or {}
        wrong = _beyond(context.demands, most)
        if wrong:
            demand, resource, needed = wrong
            yield problem(
                "limit ranges",
                f"limit range {name}: step {demand.step} needs {_words(resource, needed)} in one pod, "
                f"it allows {_words(resource, number(most[resource]))}",
                "raise the limit range, or ask for less: --set resources...",
            )
        else:
            yield ok("limit ranges", name)


def _beyond(demands: Any, most: Mapping[str, str]) -> tuple[Demand, str, float] | None:
    for demand in demands:
        for resource, needed in _of_one_pod(demand, demand.cpu_limit or demand.cpu).items():
            if resource in most and needed > number(most[resource]) * _TOLERANCE:
                return demand, resource, needed
    return None


def _of_one_pod(demand: Demand, cpu: float) -> dict[str, float]:
    needs = {"cpu": cpu, "memory": demand.memory_gb * 1e9}
    return needs | ({demand.gpu_resource: float(demand.gpus)} if demand.gpus else {})


def nodes(context: CheckContext) -> Iterator[Finding]:
    """Each pod of the recipe fits onto at least one node, were it empty."""
    try:
        found = context.kubernetes.get("/api/v1/nodes") or {}
    except NotAllowedError as error:
        yield unknown("nodes", error.headline)
        return
    nodes_ = [item["status"].get("allocatable", {}) for item in found.get("items", [])]
    if not nodes_:
        yield problem("nodes", "there is no node", "add one")
        return
    fits = True
    for demand in context.demands:
        needs = _of_one_pod(demand, demand.cpu)
        if not any(all(number(node.get(key, 0)) >= needed for key, needed in needs.items()) for node in nodes_):
            fits = False
            what = ", ".join(_words(key, needed) for key, needed in needs.items())
            yield problem(
                "nodes", f"no node has room for a pod of {demand.step}: {what}", "add one, or wait for the autoscaler"
            )
    if fits:
        yield ok("nodes", f"{len(nodes_)}" + ("; every pod of the recipe fits" if context.demands else ""))


def _words(resource: str, value: float) -> str:
    return f"{value / 1e9:g} GB of {resource}" if "memory" in resource else f"{value:g} {resource}"
