"""Pod Security `restricted`, asked of each pod template (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""

import copy

import pytest

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def violations(template):
    """What `restricted` refuses, and a root file system that can be written to."""
    spec = template["spec"]
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    for volume in spec.get("volumes", ()):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    if pod.get("sysctls"):
        yield "sysctls"
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        own = container.get("securityContext", {})
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield "privilege"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield "capabilities"
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            yield "runAsNonRoot"
        if own.get("runAsUser", pod.get("runAsUser")) in (0, None):
            yield "runAsUser"
        profile = own.get("seccompProfile", pod.get("seccompProfile", {}))
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield "seccompProfile"
        if own.get("procMount", "Default") != "Default":
            yield "procMount"
        if any(port.get("hostPort") for port in container.get("ports", ())):
            yield "hostPort"
        if own.get("readOnlyRootFilesystem") is not True:
            yield "readOnlyRootFilesystem"


def test_every_pod_template_is_restricted(installation):
    owners = {owner.split("/")[0] for owner, _ in installation.pods()}
    assert {"Deployment", "CronJob", "TrainingRuntime"} <= owners
    for owner, template in installation.pods():
        assert list(violations(template)) == [], owner


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda pod, container: pod.update(hostNetwork=True), "hostNetwork"),
        (lambda pod, container: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "volume x"),
        (lambda pod, container: pod["securityContext"].update(runAsUser=0), "runAsUser"),
        (lambda pod, container: pod["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
        (lambda pod, container: pod["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda pod, container: container["securityContext"].pop("allowPrivilegeEscalation"), "privilege"),
        (lambda pod, container: container["securityContext"].pop("capabilities"), "capabilities"),
        (lambda pod, container: container["securityContext"].pop("readOnlyRootFilesystem"), "readOnlyRootFilesystem"),
        (lambda pod, container: pod.update(initContainers=[{"name": "x"}]), "capabilities"),
    ],
)
def test_a_laxer_pod_is_found(dev, spoil, found):
    template = copy.deepcopy(dev.one("Deployment", "zoetrope-mlflow")["spec"]["template"])
    spoil(template["spec"], template["spec"]["containers"][0])
    assert found in list(violations(template))


def test_only_who_speaks_to_the_api_server_gets_a_token(installation):
    for owner, template in installation.pods():
        mounted = template["spec"].get("automountServiceAccountToken")
        assert mounted is (owner == "CronJob/zoetrope-reaper"), owner
