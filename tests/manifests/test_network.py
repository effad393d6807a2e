"""Network policies, read as Kubernetes does: who of ours may speak to whom. (No CNI of the tests enforces them.)"""

from pathlib import Path

import pytest
import yaml

COMPILED = Path(__file__).resolve().parents[2] / "pipelines" / "compiled"
OPENINGS = {
    "step": {"zoetrope-dns", "zoetrope-store", "zoetrope-api-server", "zoetrope-pipelines", "zoetrope-tracking"},
    "training": {"zoetrope-dns", "zoetrope-store", "zoetrope-training", "zoetrope-tracking"},
    "mlflow": {"zoetrope-dns", "zoetrope-store", "zoetrope-mlflow-database"},
    "reaper": {"zoetrope-dns", "zoetrope-store", "zoetrope-api-server"},
    "postgresql": {"zoetrope-dns"},
}


def selects(selector, labels):
    for each in selector.get("matchExpressions", ()):
        value = labels.get(each["key"])
        if (each["operator"] == "In") != (value in each["values"]):
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def leaving(installation, labels):
    """Policies that let something out of a pod, by name."""
    return {
        policy["metadata"]["name"]
        for policy in installation.of("NetworkPolicy")
        if selects(policy["spec"]["podSelector"], labels) and policy["spec"].get("egress")
    }


def labels_of_steps():
    """Labels that the compiled pipelines put on the pods of their steps."""
    for path in (COMPILED / "cluster").glob("*.yaml"):
        _, platform = yaml.safe_load_all(path.read_text())
        for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            yield executor["podMetadata"]["labels"]


def test_a_step_reaches_what_it_needs_and_no_more(dev):
    steps = list(labels_of_steps())
    assert steps
    for labels in steps:
        assert leaving(dev, labels) == OPENINGS["step"]


@pytest.mark.parametrize("component", ["training", "mlflow", "reaper", "postgresql"])
def test_a_pod_reaches_what_it_needs_and_no_more(dev, component):
    pods = [template["metadata"]["labels"] for _, template in dev.pods()]
    labels = [each for each in pods if each["app.kubernetes.io/component"] == component]
    assert labels
    for each in labels:
        assert leaving(dev, each) == OPENINGS[component]


def test_all_our_pods_are_cut_off_first(installation):
    deny = installation.one("NetworkPolicy", "zoetrope-default-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    for owner, template in installation.pods():
        assert selects(deny["podSelector"], template["metadata"]["labels"]), owner


def test_pods_that_are_not_ours_are_left_alone(installation):
    for policy in installation.of("NetworkPolicy"):
        assert not selects(policy["spec"]["podSelector"], {"app": "ml-pipeline"}), policy["metadata"]["name"]


def test_a_policy_that_lists_what_it_lets_through_names_the_ports(installation):
    """All but the training pods among each other, whose ports gloo and NCCL choose."""
    for policy in installation.of("NetworkPolicy"):
        for rule in (*policy["spec"].get("egress", ()), *policy["spec"].get("ingress", ())):
            assert rule.get("ports") or policy["metadata"]["name"] == "zoetrope-training"


def test_nobody_reaches_the_clouds_metadata_service(installation):
    for policy in installation.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", ()):
            for peer in rule["to"]:
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert peer["ipBlock"]["except"] == ["169.254.169.254/32"]
