"""The WGAN-GP training step and the loop around it."""
