"""Step `evaluate`: scores of generated videos, measured on the decoded pixels."""
