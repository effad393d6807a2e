"""What runs in a pod: one folder per step."""
