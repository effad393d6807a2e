"""Step `generate`: videos from a checkpoint and, as a control group, from an untrained model."""
