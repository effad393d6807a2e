"""Step `generate`: videos from a checkpoint, and from an untrained model of the same size as a control group."""
