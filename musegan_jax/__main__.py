"""`python -m musegan_jax` is the command `musegan-jax`."""

from musegan_jax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
