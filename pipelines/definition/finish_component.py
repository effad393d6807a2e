"""The KFP component of `finish`, the exit task of every pipeline on a cluster."""

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def finish(status: dsl.PipelineTaskFinalStatus, page: dsl.Output[dsl.HTML]):
    """Files costs, run record and MLflow run, however the run ended.

    Args:
        status: how the run ended, from KFP.
        page: what the run cost and made, as HTML.
    """
    from zoetrope.infra.settings import Settings
    from zoetrope.infra.steps import task_errors
    from zoetrope.pipelines.definition.finish import finish as work

    with task_errors("finish"):
        work(status.state, status.error_message or "", Settings(), page)
