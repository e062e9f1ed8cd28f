"""A record is enough to train the same again, and to see where another run departs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from musegan_jax import cli, numerics
from musegan_jax.errors import UserError
from musegan_jax.runs.environment import environment
from musegan_jax.training import determinism, loop
from test_train import change_record, copy, fingerprint_of, with_


@pytest.fixture(scope="module")
def recorded(tiny, tmp_path_factory):
    """A run of four iterations, saved at 2 and 4, whose learning rates fall towards the end."""
    workdir = tmp_path_factory.mktemp("recorded")
    loop.train(with_(tiny, "--training.decay_from=0.25"), workdir)
    return workdir


def reproduce(capsys, workdir, *words):
    status = cli.main(["reproduce", str(workdir / "run.json"), *words])
    return status, *capsys.readouterr()


@pytest.mark.contract
def test_the_same_again_is_equal(recorded, capsys):
    status, out, err = reproduce(capsys, recorded)
    assert status == 0, err
    assert "equal, bit for bit: 2 saved states (iterations 2, 4)" in out
    assert fingerprint_of(recorded)["state"] in out
    assert "differs from the record" not in err


def test_the_record_alone_is_enough(recorded, tmp_path, capsys):
    (tmp_path / "run.json").write_bytes((recorded / "run.json").read_bytes())
    # A process that was killed may have left this beside it.
    (tmp_path / "fingerprints.jsonl").write_text('{"iter')
    status, out, _ = reproduce(capsys, tmp_path)
    assert status == 0 and "1 saved states (iterations 4)" in out


def test_a_part_of_the_run_can_be_compared(recorded, tmp_path, capsys):
    words = ("--training.iterations=2", "--workdir", str(tmp_path / "again"))
    status, out, _ = reproduce(capsys, recorded, *words)
    assert status == 0 and "(iterations 2)" in out
    assert (tmp_path / "again" / "run.json").exists()  # a named folder stays


@pytest.mark.slow
def test_where_another_run_first_differs(recorded, tmp_path, capsys):
    """On another topology the order of additions differs, and the command says from where on."""
    status, out, err = reproduce(capsys, recorded, "--parallel.strategy=jit")
    assert status == 1
    assert "strategy: mesh there, jit here" in err
    assert "scalars first differ at iteration" in out
    assert "the state first differs at iteration 2: " in out and "generator_params" in out
    # A record that was tampered with is seen too.
    copy(recorded, tmp_path)
    values = json.loads((tmp_path / "run.json").read_text())
    values["result"]["fingerprint"]["critic_params"] = "0" * 64
    change_record(tmp_path, result=values["result"])
    status, out, _ = reproduce(capsys, tmp_path)
    assert status == 1 and out.strip() == "the state first differs at iteration 4: critic_params"


def test_what_cannot_be_reproduced(recorded, tmp_path, capsys):
    cases = [
        ([str(tmp_path / "none.json")], "no such file"),
        ([str(recorded / "run.json"), "--training.seed=5"], "training.seed = 0, the command says"),
        ([str(recorded / "run.json"), "--training.iterations=9"], "ended at iteration 4"),
        ([str(recorded / "run.json"), "--workdir", str(recorded)], "is not empty"),
        ([str(recorded / "run.json"), "--data.dataset=none.npz"], "none.npz"),
    ]
    for words, message in cases:
        status = cli.main(["reproduce", *words])
        _, err = capsys.readouterr()
        assert status == 2 and message in err and err.count("\n") == 1, err


def test_what_the_runtime_said_is_kept_in_a_named_folder(recorded, tmp_path, capsys, monkeypatch):
    def fail(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: first\nand the rest")

    monkeypatch.setattr(loop, "_loop", fail)
    status, _, err = reproduce(capsys, recorded, "--workdir", str(tmp_path))
    assert status == 2 and f"(in full: {tmp_path / 'error-0.txt'})" in err
    assert "and the rest" in (tmp_path / "error-0.txt").read_text()


def test_fingerprint_prints_every_part(recorded, capsys):
    assert cli.main(["fingerprint", str(recorded)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["iteration", "4"]
    found = dict(line.split() for line in lines[1:])
    assert found == fingerprint_of(recorded)
    assert cli.main(["fingerprint", str(recorded), "--step", "2"]) == 0
    assert dict(line.split() for line in capsys.readouterr().out.splitlines()[1:]) != found
    assert cli.main(["fingerprint", str(recorded), "--step", "3"]) == 2
    assert "no checkpoint of iteration 3; there are: 2, 4" in capsys.readouterr().err


def test_a_backend_that_does_not_start_is_one_line(tmp_path):
    command = [sys.executable, "-m", "musegan_jax.cli", "train", "--config", "configs/tiny.py",
               "--workdir", str(tmp_path / "run")]  # fmt: skip
    environment = {**os.environ, "JAX_PLATFORMS": "cuda"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        pytest.skip("there is a GPU")
    assert done.returncode == 2 and "JAX finds no device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_determinism_switch(tiny, tmp_path):
    """The command sets the flag before JAX starts; later it is refused, and it is recorded."""
    command = [
        sys.executable, "-m", "musegan_jax.cli", "train", "--config", "configs/tiny.py",
        "--workdir", str(tmp_path / "run"), f"--data.dataset={tiny.data.dataset}",
        "--output.melodies=", "--deterministic", "--training.iterations=1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["training"]["deterministic"] is True
    assert record["sessions"][0]["deterministic"] is True
    assert determinism.FLAG in record["sessions"][0]["xla_flags"]


def test_the_determinism_switch_comes_too_late_here(tiny, tmp_path, monkeypatch):
    assert jax.devices()  # JAX has started
    config = with_(tiny, "--training.deterministic=true")
    with pytest.raises(UserError, match="JAX has started already"):
        determinism.enable(config)
    determinism.enable(tiny)
    determinism.check(config)  # a CPU needs no flag
    loop.train(with_(config, "--training.iterations=1"), tmp_path)  # nor does training there

    class Gpu:
        platform = "gpu"

    monkeypatch.setattr(jax, "devices", lambda: [Gpu()])
    with pytest.raises(UserError, match="XLA_FLAGS=--xla_gpu_deterministic_ops=true"):
        determinism.check(config)
    monkeypatch.setenv("XLA_FLAGS", f"--one {determinism.FLAG}")
    determinism.check(config)


def test_the_environment_names_what_the_bits_depend_on(tiny, monkeypatch):
    here = environment(tiny)
    assert here["device"]["count"] == 4 and here["processes"] == 1
    assert here["packages"]["jax"] and len(here["commit"] or "0" * 40) >= 40
    assert here["prng_partitionable"] is True
    assert here["cpu"]["threads"] >= 1 and here["xla_flags"] == os.environ["XLA_FLAGS"]
    monkeypatch.setenv("NPROC", "3")
    assert environment(tiny)["cpu"]["threads"] == 3


PINNED = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_DISABLE_JIT": "true",
    "JAX_ENABLE_X64": "true",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_THREEFRY_PARTITIONABLE": "false",
}
# Another value than the default of each: of its variable, or, where JAX reads none, of the setting.
OTHERWISE = {
    "eager_constant_folding": "true",
    "jax_accurate_erf_inv": "true",
    "jax_compilation_cache_expect_pgle": "true",
    "jax_compiler_enable_remat_pass": "false",
    "jax_cpu_collectives_implementation": "mpi",
    "jax_custom_jvp3": "true",
    "jax_custom_vjp3": "true",
    "jax_default_matmul_precision": "highest",
    "jax_disable_most_optimizations": "true",
    "jax_embedded_constants_max_bytes": "7",
    "jax_enable_pgle": "true",
    "jax_error_checking_behavior_divide": "raise",
    "jax_error_checking_behavior_nan": "raise",
    "jax_error_checking_behavior_oob": "raise",
    "jax_exec_time_optimization_effort": "0.5",
    "jax_explicit_x64_dtypes": "allow",
    "jax_high_dynamic_range_gumbel": "true",
    "jax_memory_fitting_effort": "0.5",
    "jax_memory_fitting_level": "O1",
    "jax_optimization_level": "O1",
    "jax_persistent_cache_enable_xla_caches": "none",
    "jax_pgle_aggregation_percentile": "50",
    "jax_pgle_profiling_runs": "7",
    "jax_pjrt_client_create_options": "a:b",
    "jax_remat3": "true",
    "jax_remat_barrier_no_cotangents": "true",
    "jax_remove_size_one_mesh_axis_from_type": "true",
    "jax_scan3": "true",
    "jax_softmax_custom_jvp": "true",
    "jax_sort_devices_by_process_index": False,
    "jax_threefry_gpu_kernel_lowering": "true",
    "jax_use_direct_linearize": "false",
    "jax_use_hlo_logistic_lowering": True,
    "jax_use_rgv3": "false",
    "jax_use_shardy_partitioner": "false",
    "jax_use_simplified_jaxpr_constants": "true",
    "jax_xla_profile_version": "1",
}
# Settings of JAX that change no bit of ours: they check, print, name devices, places or limits, or
# are of what we do not use. Read what a new one does before it is added here.
WITHOUT_EFFECT = re.compile(
    "(jax_)?(backend_target|xla_backend|platforms?|platform_name|default_device|num_cpu_devices"
    "|.*visible_devices|mock_.*|compilation_cache_.*|enable_compilation_cache|persistent_cache_min_.*"
    "|.*persistent_cache_errors|debug_.*|log_.*|logging_level|.*dump.*|.*traceback.*|explain_.*"
    "|check_.*|.*_checks|enable_checks|numpy_rank_promotion|transfer_guard.*|thread_guard|no_.*"
    "|array_garbage_collection_guard|captured_constants_.*|compiler_detailed_.*|cross_host_.*"
    "|force_dcn_.*|cpu_get_.*|cpu_enable_async_dispatch|distributed_.*|mtls_.*|share_binary_.*"
    "|enable_preemption_service|enable_recoverability|experimental_unsafe_xla_runtime_errors"
    "|export_.*|serialization_version|hlo_source_.*|source_url_schema|pprint_use_color|tracer_.*"
    "|disallow_mesh_context_manager|disable_vmap_shmap_error|raise_on_ppermute_sort_diff|auto_pcast"
    "|allow_f16_reductions|enable_custom_prng|legacy_prng_key|remove_custom_partitioning_.*"
    "|use_cpp_shard_args|refs_to_pins|jax2tf_.*|bcoo_.*|use_magma|ragged_dot_.*|pallas_.*|mosaic_.*"
    "|use_emit_pipeline_primitive)"
)


def child(code, changes):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, **changes},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_setting_that_changes_bits_is_recorded():
    """Each is flipped by its environment variable; the page names them all."""
    code = (
        "import json, jax\n"
        "for name, value in UPDATES.items():\n"
        "    name in jax.config.values and jax.config.update(name, value)\n"
        "jax.devices = lambda: [type('D', (), {'device_kind': '', 'platform': ''})]\n"
        "jax.device_count = jax.process_count = lambda: 1\n"
        "from musegan_jax import config\n"
        "from musegan_jax.runs.environment import environment\n"
        "print(json.dumps(environment(config.Config())))\n"
    )
    flipped = {name.upper(): value for name, value in OTHERWISE.items() if isinstance(value, str)}
    flipped |= {name: "7" for name in numerics.VARIABLES}
    updates = {name: value for name, value in OTHERWISE.items() if not isinstance(value, str)}
    before = json.loads(child(code.replace("UPDATES", "{}"), {}))
    after = json.loads(child(code.replace("UPDATES", repr(updates)), flipped))
    assert {*OTHERWISE} == {*numerics.RECORDED, "jax_default_matmul_precision"}
    same = [n for n, value in before["settings"].items() if after["settings"][n] == value]
    assert before["settings"].keys() == after["settings"].keys() and not same, same
    assert after["variables"] == dict.fromkeys(numerics.VARIABLES, "7")
    assert after["precision"]["matmul"] == "highest" and after["cpu"]["threads"] == 7
    known = {*OTHERWISE, *map(str.lower, PINNED)}
    new = [name for name in jax.config.values if name not in known]
    assert not [name for name in new if not WITHOUT_EFFECT.fullmatch(name)]
    page = Path("docs/reproducibility.md").read_text()
    names = [*map(str.upper, OTHERWISE), *numerics.VARIABLES, *PINNED, "XLA_FLAGS"]
    assert not [name for name in names if f"`{name}`" not in page]


@pytest.mark.slow
def test_what_is_pinned_changes_no_bit(tiny, tmp_path):
    """A run under other values of all of them: the same fingerprint, and the same song."""
    code = (
        "import sys\n"
        "from musegan_jax.cli import main\n"
        "data, to = ARGUMENTS\n"
        "assert main(['train', '--config', 'tiny', '--workdir', to, '--training.iterations=1',\n"
        "             f'--data.dataset={data}', '--output.melodies=twinkle']) == 0\n"
    )
    ends = []
    for name, changes in (("plain", {}), ("flipped", PINNED)):
        arguments = (tiny.data.dataset, str(tmp_path / name))
        child(code.replace("ARGUMENTS", repr(arguments)), changes)
        song = tmp_path / name / "samples" / "000001" / "twinkle.mid"
        ends.append((fingerprint_of(tmp_path / name), song.read_bytes()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_enable_x64", True), ("jax_disable_jit", True), ("jax_numpy_dtype_promotion", "strict")],
)
def test_each_setting_is_pinned_while_we_compute(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        with numerics.pinned():
            assert getattr(jax.config, name) == before
            assert jax.numpy.arange(2).dtype == np.int32
        assert getattr(jax.config, name) == value
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "2"], "need --distributed"),
        (["--distributed", "--processes", "2"], "belong together"),
        (["--distributed", "--coordinator", "a", "--processes", "2", "--process-id", "0"], "PORT"),
        (["--distributed", "--coordinator", "a:1", "--processes", "2", "--process-id", "2"], "1"),
    ],
)
def test_processes_that_cannot_be(tmp_path, capsys, words, message):
    command = ["train", "--config", "configs/tiny.py", "--workdir", str(tmp_path / "run")]
    status = cli.main([*command, *words])
    err = capsys.readouterr().err
    assert status == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()
