"""Installs the dev overlay and what it needs into a cluster that has KFP and Trainer, for the end-to-end tests.

`python -m tests.e2e.install`, with KUBECONFIG; variables:

NAMESPACE       where KFP runs its pods (default kubeflow)
POSTGRES_IMAGE  image for MLflow's database (default: the upstream image that the manifests name)
IMAGES_LOCK     digests of the images that `make images` pushed (default images.lock)
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from zoetrope.infra.images.lock import read_images

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = os.environ.get("NAMESPACE", "kubeflow")
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


def render(images: dict[str, str]) -> str:
    """The dev overlay with these images."""
    with tempfile.TemporaryDirectory(dir=ROOT / "manifests" / "overlays") as folder:
        entries = []
        for name, reference in images.items():
            place, _, digest = reference.partition("@")
            entries.append(f"  - {{name: {name}, newName: {place}, digest: '{digest}'}}")
        text = f"resources: [../dev]\nnamespace: {NAMESPACE}\nimages:\n" + "\n".join(entries) + "\n"
        Path(folder, "kustomization.yaml").write_text(text)
        return kubectl("kustomize", folder, namespace=False)


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
    images = read_images(Path(os.environ.get("IMAGES_LOCK", "images.lock"))).images
    make_secrets()
    mapped = {f"zoetrope-{name}": reference for name, reference in images.items()}
    if os.environ.get("POSTGRES_IMAGE"):
        mapped["postgres"] = os.environ["POSTGRES_IMAGE"]
    apply(render(mapped))
    remote = git_server(images["core"])
    kubectl("patch", "configmap", "zoetrope-settings", "-p", json.dumps({"data": {"ZOETROPE_DATASET_REMOTE": remote}}))
    for what in ("statefulset/zoetrope-postgresql", "deployment/zoetrope-mlflow"):
        print(f"waiting for {what}", flush=True)
        kubectl("rollout", "status", what, "--timeout=300s")
    kubectl("wait", f"pod/{GIT}", "--for=condition=Ready", "--timeout=120s")
    print(kubectl("get", "pods"))


if __name__ == "__main__":
    sys.exit(main())
