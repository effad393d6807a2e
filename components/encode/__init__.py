"""Encode: clips and captions become latent and text shards, an index and a dataset manifest."""
