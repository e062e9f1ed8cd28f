"""The same numbers whatever the environment says of JAX's random generator."""

import pytest

from conftest import in_new_process

DRAW = (
    "import jax\n"
    "from musegan_jax import rng\n"
    "key = rng.update_key(rng.root_key(3), 'noise', 7, 1)\n"
    "print(jax.random.normal(rng.example_keys(key, [0, 1])[1], (3, 2)).tolist())\n"
)


@pytest.mark.parametrize(
    "environment", [{"JAX_THREEFRY_PARTITIONABLE": "false"}, {"JAX_DEFAULT_PRNG_IMPL": "rbg"}]
)
def test_the_environment_changes_no_draw(environment):
    assert in_new_process(DRAW, **environment) == in_new_process(DRAW)
