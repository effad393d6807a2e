"""Installs the dev overlay and what it needs into a cluster that has KFP and Trainer, for the end-to-end tests.

`python -m tests.e2e.install`, with KUBECONFIG; variables:

NAMESPACE       where KFP runs its pods (default kubeflow)
POSTGRES_IMAGE  image for MLflow's database (default: the upstream image that the manifests name)
IMAGES_LOCK     digests of the images that `make images` pushed (default images.lock)
VOLUME_PATH     folder of the node for the database's volume, where the cluster has no default storage class; owned
                by user 999 or writable for all
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from tests.e2e.cluster import IMAGES, NAMESPACE
from zoetrope.infra.images.lock import read_images
from zoetrope.infra.images.overlay import write_overlay

ROOT = Path(__file__).resolve().parents[2]
GIT = "zoetrope-git"
REPOSITORY = "datasets.git"


def kubectl(*arguments: str, stdin: str | None = None, namespace: bool = True) -> str:
    """Output of one call."""
    command = ["kubectl", *(["-n", NAMESPACE] if namespace else []), *arguments]
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])}: {done.stderr.strip()}")
    return done.stdout


def apply(manifest: str) -> None:
    """Server-side apply: manifests may be larger than the annotation of the client-side one."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)


def secret(name: str, values: dict[str, str]) -> None:
    """Creates or replaces a Secret."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    apply(json.dumps(body))


def make_secrets() -> None:
    """The credentials of KFP's own store, and a database password that nobody knows."""
    given = json.loads(kubectl("get", "secret", "mlpipeline-minio-artifact", "-o", "json"))["data"]
    read = {key: base64.b64decode(value).decode() for key, value in given.items()}
    secret("zoetrope-store", {"AWS_ACCESS_KEY_ID": read["accesskey"], "AWS_SECRET_ACCESS_KEY": read["secretkey"]})
    if "zoetrope-mlflow" in kubectl("get", "secrets", "-o", "name"):
        return
    password = secrets.token_hex(16)
    uri = f"postgresql+psycopg2://mlflow:{password}@zoetrope-postgresql:5432/mlflow"
    secret("zoetrope-mlflow", {"POSTGRES_PASSWORD": password, "MLFLOW_BACKEND_STORE_URI": uri})


def render(lock: Path) -> str:
    """The dev overlay with the digests of the lock."""
    more = {"postgres": os.environ["POSTGRES_IMAGE"]} if os.environ.get("POSTGRES_IMAGE") else {}
    folder = ROOT / ".e2e" / "overlay"
    write_overlay("dev", folder, lock=lock, images=more, root=ROOT / "manifests")
    return kubectl("kustomize", str(folder), namespace=False)


def volume(path: str) -> None:
    """A volume for MLflow's database, on a cluster that makes none by itself."""
    claim = "data-zoetrope-postgresql-0"
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "hostPath": {"path": path, "type": "DirectoryOrCreate"},
        "claimRef": {"namespace": NAMESPACE, "name": claim},
    }
    apply(json.dumps({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim}, "spec": spec}))


def git_server(core: str) -> str:
    """A git server for the data registry, as a pod; returns its URL inside the cluster."""
    command = (
        f"git init -q --bare /srv/{REPOSITORY} && exec git daemon --reuseaddr --export-all --enable=receive-pack "
        f"--base-path=/srv --listen=0.0.0.0 --port=9418 /srv/{REPOSITORY}"
    )
    labels = {"app.kubernetes.io/name": GIT}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": GIT, "labels": labels},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "git",
                    "image": core,
                    "command": ["sh", "-c", command],
                    "volumeMounts": [{"name": "data", "mountPath": "/srv"}, {"name": "tmp", "mountPath": "/tmp"}],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GIT},
        "spec": {"selector": labels, "ports": [{"port": 9418}]},
    }
    if f"pod/{GIT}\n" not in kubectl("get", "pods", "-o", "name"):
        apply(json.dumps(pod))
    apply(json.dumps(service))
    return f"git://{GIT}.{NAMESPACE}:9418/{REPOSITORY}"


def main() -> None:
    """Installs everything and waits until it runs."""
    lock = Path(IMAGES)
    make_secrets()
    if os.environ.get("VOLUME_PATH"):
        volume(os.environ["VOLUME_PATH"])
    apply(render(lock))
    remote = git_server(read_images(lock).image("core"))
    kubectl("patch", "configmap", "zoetrope-settings", "-p", json.dumps({"data": {"ZOETROPE_DATASET_REMOTE": remote}}))
    for what in ("statefulset/zoetrope-postgresql", "deployment/zoetrope-mlflow"):
        print(f"waiting for {what}", flush=True)
        kubectl("rollout", "status", what, "--timeout=300s")
    kubectl("wait", f"pod/{GIT}", "--for=condition=Ready", "--timeout=120s")
    print(kubectl("get", "pods"))


if __name__ == "__main__":
    sys.exit(main())
