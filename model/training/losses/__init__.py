"""What the autoencoder is trained to make small, beside the absolute error."""
