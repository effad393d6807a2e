"""The causal 3D variational autoencoder of HunyuanVideo, which Open-Sora 2.0's main model is built on."""
