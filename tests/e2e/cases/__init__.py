"""The faults, by name."""

from tests.e2e.cases import disturbed, hopeless, stopped, untracked
from tests.e2e.cases.common import Case, Seen

CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        disturbed.launcher_killed,
        disturbed.training_pod_killed,
        stopped.terminated,
        stopped.terminated_without_launcher,
        stopped.run_deleted,
        hopeless.out_of_memory,
        hopeless.image_that_does_not_exist,
        hopeless.label_that_no_node_has,
        untracked.mlflow_down,
        disturbed.api_server_away,
    )
}
NEEDS = {"api_server_away": ("API_STOP", "API_START")}
"""Variables without which a case is not run."""

__all__ = ["CASES", "NEEDS", "Case", "Seen"]
