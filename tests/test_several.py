"""Several iterations in one program, which the benchmarks time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musegan_jax import config as configs
from musegan_jax.data import batches
from musegan_jax.training import parallel
from musegan_jax.training import step as steps


@pytest.mark.slow
def test_several_iterations_in_one_program_are_the_iterations(tiny, data, monkeypatch):
    monkeypatch.syspath_prepend("benchmarks")
    import several

    words = ["--training.critic_updates=1", "--parallel.strategy=jit"]
    config = configs.override(tiny, words)
    layout = parallel.make_layout(config)
    windows = parallel.make_feed(config, layout, batches.make_windows(data, config))(0)
    found, expected = (parallel.initial_state(config, layout) for _ in range(2))
    together = several.compile_steps(config, layout, found, windows, 2)
    apart = several.compile_steps(config, layout, expected, windows, 1)
    found, metrics = together(found, windows)
    for n in range(2):
        expected, one = apart(expected, windows)
        for name, value in one.items():
            np.testing.assert_allclose(metrics[name][n], value, rtol=1e-4, atol=1e-5)
    assert int(found.step) == 2
    for ours, plain in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-5)

    examples = jnp.arange(config.training.batch_size)
    traced = jax.jit(functools.partial(several.train_steps, steps.train_step, 9, config)).trace(
        expected, windows, together.root, examples
    )
    # A loop on accelerators; unrolled on CPU, where convolutions in loops are slow.
    cuda, cpu = (traced.lower(lowering_platforms=(kind,)).as_text() for kind in ("cuda", "cpu"))
    assert len(cuda) < len(cpu) / 4
    host = batches.HostBatch(None, None, None)
    with pytest.raises(TypeError, match="Windows"):
        several.train_steps(steps.train_step, 2, config, expected, host, together.root, examples)
