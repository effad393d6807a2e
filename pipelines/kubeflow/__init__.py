"""Runs on a cluster: what the Kubeflow UI does, through KFP's own client."""
