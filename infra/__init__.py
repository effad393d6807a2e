"""The outside world behind small ports."""
