"""Clears up after runs: jobs that were left behind, and the ledgers of pods and runs."""
