"""The reference GAN in other frameworks, to compare speed with, and that it is the same GAN."""
