"""The steps `autoencoder` and `stage_1` to `stage_3`."""
