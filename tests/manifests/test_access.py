"""Least rights: an offline reading of our Roles and RoleBindings against the list in actions.yaml."""

from pathlib import Path

import pytest
import yaml

ACTIONS = yaml.safe_load((Path(__file__).parent / "actions.yaml").read_text())
CASES = [
    (account, expected, action)
    for account, expectations in ACTIONS.items()
    for expected, actions in expectations.items()
    for action in actions
]


def may(installation, account, action):
    """Whether a RoleBinding of the installation gives the account this right."""
    if action.get("scope") == "cluster" or action.get("namespace", installation.namespace) != installation.namespace:
        return False  # a Role reaches no further than its namespace; that there are only Roles has its own test
    wanted = "/".join(filter(None, (action["resource"], action.get("subresource"))))
    for binding in installation.of("RoleBinding"):
        if not any(s["kind"] == "ServiceAccount" and s["name"] == account for s in binding["subjects"]):
            continue
        for rule in installation.one("Role", binding["roleRef"]["name"])["rules"]:
            names = rule.get("resourceNames")
            if (
                action.get("group", "") in rule["apiGroups"]
                and wanted in rule["resources"]
                and action["verb"] in rule["verbs"]
                and (not names or action.get("name") in names)
            ):
                return True
    return False


@pytest.mark.parametrize(("account", "expected", "action"), CASES)
def test_an_account_may_do_this_and_not_that(dev, account, expected, action):
    assert may(dev, account, action) == (expected == "allowed")


def test_the_list_is_long_enough():
    assert len(ACTIONS["zoetrope-runner"]["forbidden"]) >= 15


def test_roles_name_verbs_and_resources_and_reach_one_namespace(installation):
    assert not installation.of("ClusterRole")
    assert not installation.of("ClusterRoleBinding")
    for role in installation.of("Role"):
        for rule in role["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"]), role["metadata"]["name"]
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"], role["metadata"]["name"]


def test_bindings_bind_what_is_there_in_this_namespace(installation):
    for binding in installation.of("RoleBinding"):
        assert installation.one("Role", binding["roleRef"]["name"])
        assert {subject["namespace"] for subject in binding["subjects"]} == {installation.namespace}


def test_a_run_from_the_form_needs_nothing_else(dev):
    """KFP's stock account gets the trainer's rights, and only those, from us."""
    subjects = {
        subject["name"]: binding["roleRef"]["name"]
        for binding in dev.of("RoleBinding")
        for subject in binding["subjects"]
    }
    assert subjects["pipeline-runner"] == "zoetrope-trainer"


def test_a_profile_uses_its_own_account(render, installation):
    if installation.name != "profile":
        return
    assert may(
        installation, "default-editor", {"verb": "create", "group": "trainer.kubeflow.org", "resource": "trainjobs"}
    )
    assert "zoetrope-runner" not in {document["metadata"]["name"] for document in installation.of("ServiceAccount")}
    assert "pipeline-runner" not in str(installation.documents)
