"""Kubernetes: the client, what pods say of themselves, who clears up."""
