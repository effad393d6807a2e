"""A TorchX app as a Kubeflow TrainJob: the scheduler `trainjob`, and the contract of a step that launches one."""
