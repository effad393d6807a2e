"""Are the objects of our manifests there? Of secrets only the names of their keys are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zoetrope.infra.doctor.findings import APPLY_HINT, CheckContext, Finding, ok, problem, unknown
from zoetrope.infra.kubernetes.errors import NotAllowedError
from zoetrope.infra.store import schemes

SERVICE_ACCOUNTS = ("zoetrope-job",)  # beside the steps' own, which an option may change
SETTINGS_MAP, STORE_SECRET = "zoetrope-settings", "zoetrope-store"
SETTINGS: Mapping[str, tuple[str, ...]] = {SETTINGS_MAP: ("ZOETROPE_STORE", "ZOETROPE_TRACKING_URI")}
SECRETS: Mapping[str, tuple[str, ...]] = {
    "zoetrope-mlflow": ("MLFLOW_BACKEND_STORE_URI",),
}
DATABASE, DATABASE_KEY = "zoetrope-postgresql", "POSTGRES_PASSWORD"
"""With the database of our own manifests the secret of MLflow holds this as well."""
RUNTIMES = ("zoetrope-torch-cpu", "zoetrope-plain")


def service_accounts(context: CheckContext) -> Iterator[Finding]:
    """Those of steps and jobs."""
    wanted = (context.service_account, *SERVICE_ACCOUNTS)
    for name in wanted:
        path = f"/api/v1/namespaces/{context.namespace}/serviceaccounts/{name}"
        try:
            found = context.kubernetes.get(path)
        except NotAllowedError as error:
            yield unknown("service accounts", f"{name}: {error.headline}")
            continue
        if found is None:
            yield problem("service accounts", f"there is no service account {name} in {context.namespace}", APPLY_HINT)
        else:
            yield ok("service accounts", name)


def settings(context: CheckContext) -> Iterator[Finding]:
    """The ConfigMap of settings."""
    yield from _keys(context, "settings", "configmaps", SETTINGS)


def secrets(context: CheckContext) -> Iterator[Finding]:
    """The secrets, by the names of their keys."""
    wanted = {STORE_SECRET: _store_keys(context), **SECRETS}
    try:
        if context.kubernetes.get(f"/apis/apps/v1/namespaces/{context.namespace}/statefulsets/{DATABASE}") is not None:
            wanted["zoetrope-mlflow"] += (DATABASE_KEY,)
    except NotAllowedError as error:
        yield unknown("secrets", f"whether {DATABASE} is here: {error.headline}")
    yield from _keys(context, "secrets", "secrets", wanted)


def _store_keys(context: CheckContext) -> tuple[str, ...]:
    """What the secret of the store that the settings name has to hold; of all stores where they name none."""
    try:
        found = context.kubernetes.get(f"/api/v1/namespaces/{context.namespace}/configmaps/{SETTINGS_MAP}")
    except NotAllowedError:
        found = None
    store = str(((found or {}).get("data") or {}).get("ZOETROPE_STORE", ""))
    return schemes.scheme_of(store).secrets if schemes.is_remote(store) else schemes.secret_keys()


def _keys(context: CheckContext, check: str, kind: str, wanted: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    for name, keys in wanted.items():
        try:
            found = context.kubernetes.get(f"/api/v1/namespaces/{context.namespace}/{kind}/{name}")
        except NotAllowedError as error:
            yield unknown(check, f"{name}: {error.headline}")
            continue
        if found is None:
            yield problem(check, f"there is no {kind[:-1]} {name} in {context.namespace}", APPLY_HINT)
            continue
        missing = [key for key in keys if key not in (found.get("data") or {})]
        if missing:
            yield problem(check, f"{name}: the key {missing[0]} is missing", f"add it to the {kind[:-1]}")
        else:
            yield ok(check, f"{name}: {', '.join(keys)}")


def runtimes(context: CheckContext) -> Iterator[Finding]:
    """The TrainingRuntimes that jobs of the recipe run on."""
    path = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{context.namespace}/trainingruntimes"
    there = context.kubernetes.names(path)
    wanted = {demand.runtime for demand in context.demands if demand.runtime} or set(RUNTIMES)
    for name in sorted(wanted):
        if name in there:
            yield ok("runtimes", name)
        else:
            yield problem("runtimes", f"there is no TrainingRuntime {name} in {context.namespace}", APPLY_HINT)
