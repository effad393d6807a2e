"""Every overlay renders without network into objects that Kubernetes would take."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
IMAGES = {"zoetrope-core", "zoetrope-train", "zoetrope-evaluate", "zoetrope-tracking"}
"""Placeholders: whoever installs puts the digests of images.lock in their place."""
CUSTOM = {"trainer.kubeflow.org", "kueue.x-k8s.io", "kubeflow.org"}
"""API groups that kubernetes-validate has no schema for."""


def test_objects_are_valid_and_strictly_so(installation):
    unchecked = set()
    for document in installation.documents:
        try:
            kubernetes_validate.validate(document, "1.36", strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unchecked.add(document["apiVersion"].split("/")[0])
    assert unchecked <= CUSTOM


def test_the_check_is_strict(dev):
    deployment = dev.one("Deployment", "zoetrope-mlflow")
    broken = deployment | {"spec": deployment["spec"] | {"replicaz": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replicaz"):
        kubernetes_validate.validate(broken, "1.36", strict=True)


def test_all_is_in_one_namespace_and_nothing_is_cluster_wide(installation):
    assert installation.namespace == {"profile": "team-a"}.get(installation.name, "kubeflow")
    assert not [d["kind"] for d in installation.documents if d["kind"].startswith("Cluster")]


def test_names_are_unique(installation):
    names = [(document["kind"], document["metadata"]["name"]) for document in installation.documents]
    assert len(names) == len(set(names))


def test_images_are_ours_by_name_or_pinned(installation):
    for owner, container in installation.containers():
        image = container["image"]
        assert image in IMAGES or re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+(@sha256:[0-9a-f]{64})?", image), owner


def test_nothing_that_the_overlays_use_is_remote():
    for path in MANIFESTS.rglob("kustomization.yaml"):
        if path.relative_to(MANIFESTS).parts[0] != "platform":
            assert "://" not in path.read_text(), path


def test_the_platform_is_pinned_to_release_tags():
    remote = [
        reference
        for path in (MANIFESTS / "platform").rglob("kustomization.yaml")
        for reference in yaml.safe_load(path.read_text())["resources"]
        if "://" in reference
    ]
    assert len(remote) == 4
    for reference in remote:
        assert re.search(r"\?ref=v?\d+\.\d+\.\d+&|/releases/download/v\d+\.\d+\.\d+/", reference), reference


def test_kueues_cluster_wide_queue_is_the_one_that_the_namespace_names(render):
    (local,) = [d for d in render("overlays/prod") if d["kind"] == "LocalQueue"]
    cluster = {(d["kind"], d["metadata"]["name"]): d for d in render("platform/queues")}
    queue = cluster["ClusterQueue", local["spec"]["clusterQueue"]]
    for group in queue["spec"]["resourceGroups"]:
        assert {("ResourceFlavor", flavor["name"]) for flavor in group["flavors"]} <= set(cluster)
        for flavor in group["flavors"]:
            assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_the_one_cluster_role_is_for_what_no_role_can_grant(render):
    rendered = {document["kind"]: document for document in render("platform/nodes")}
    assert rendered["ClusterRole"]["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    kubernetes_validate.validate(rendered["ClusterRole"], "1.36", strict=True)
    kubernetes_validate.validate(rendered["ClusterRoleBinding"], "1.36", strict=True)


def test_everything_that_pods_name_is_there_or_said_to_be_made_by_hand(installation):
    """ConfigMaps and accounts are in the overlay; secrets never are, so the README says how to make them."""
    readme = (MANIFESTS / "README.md").read_text()
    there = {d["metadata"]["name"] for d in installation.of("ConfigMap")} | {"zoetrope-ca"}
    for owner, template in installation.pods():
        text = yaml.safe_dump(template)
        for name in re.findall(r"(?:configMapRef|configMapKeyRef|configMap):\n(?:\s+key:.*\n)?\s+name: (\S+)", text):
            assert name in there, owner
        for name in re.findall(r"(?:secretRef|secretKeyRef):\n(?:\s+key:.*\n)?\s+name: (\S+)", text):
            assert f"`{name}`" in readme, owner
        account = template["spec"]["serviceAccountName"]
        assert account in {d["metadata"]["name"] for d in installation.of("ServiceAccount")}, owner


def test_requests_fit_the_default_limits(installation):
    """A container that asks for more than the default limit and names no limit of its own would be refused."""
    (limits,) = installation.of("LimitRange")
    if limits["spec"]["limits"][0].get("default"):
        for owner, container in installation.containers():
            if owner.startswith("TrainingRuntime/"):
                continue  # the TrainJob says what it takes
            assert set(container["resources"]["limits"]) == {"cpu", "memory"}, owner


def test_kfps_own_services_get_no_limit_put_on(installation):
    """They share the namespace, ask for up to 800 Mi and name no limit: MySQL would be killed at 1 Gi."""
    (limits,) = installation.of("LimitRange")
    assert ("default" in limits["spec"]["limits"][0]) == (installation.namespace != "kubeflow")


def test_the_reaper_is_fast_enough_and_never_twice_at_once(installation):
    spec = installation.one("CronJob", "zoetrope-reaper")["spec"]
    assert spec["schedule"] == "* * * * *"
    assert spec["concurrencyPolicy"] == "Forbid"
    # An orphan has to be gone within 150 s even when one reaper hangs until its deadline.
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 120
    assert spec["startingDeadlineSeconds"] >= 10, "below 10 s the controller may never start it"
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["zoetrope", "runs", "reap", "--json"]


def test_mlflow_knows_the_names_that_it_is_called_by(installation):
    (container,) = installation.one("Deployment", "zoetrope-mlflow")["spec"]["template"]["spec"]["containers"]
    (hosts,) = [argument for argument in container["args"] if argument.startswith("--allowed-hosts=")]
    settings = installation.one("ConfigMap", "zoetrope-settings")["data"]
    called = settings["ZOETROPE_TRACKING_URI"].removeprefix("http://")
    assert called in hosts.removeprefix("--allowed-hosts=").split(",")
    assert "*" not in hosts.removeprefix("--allowed-hosts=").split(",")
