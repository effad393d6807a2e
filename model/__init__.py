"""The video model and everything torch: architectures, flow matching, sampler, data, training."""
