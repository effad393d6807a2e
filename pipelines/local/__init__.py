"""Runs a pipeline on this machine: a supervisor that a person sees, and a driver that runs kfp.local."""
