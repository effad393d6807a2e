"""A TorchX app as a Kubeflow TrainJob: the scheduler `trainjob`, and the runner that launches one for a step."""
