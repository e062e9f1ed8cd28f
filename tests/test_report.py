"""The benchmarks' report: tables and plots from records, and two records compared."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from musegan_jax import config as configs
from musegan_jax.errors import UserError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CONFIG = configs.load(BENCHMARKS.parent / "configs" / "reference.py").to_dict()
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import report

    return report


def stored(name: str) -> dict:
    """A record of the project."""
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())


def record(benchmark: str, kind: str = "NVIDIA H100", jaxlib: str = "0.12.0", **own) -> dict:
    environment = {
        "commit": "0123456789abcdef0123+changes",
        "packages": {"jax": "0.12.1", "jaxlib": jaxlib},
        "python": "3.13.0",
        "device": {"kind": kind, "platform": "gpu", "count": 1},
        "cpu": {"model": "a processor", "threads": 2},
        "strategy": "mesh",
    }
    config = CONFIG | {"training": dict(CONFIG["training"])}
    return {"benchmark": benchmark, "environment": environment, "config": config} | own


def spread(median: float, n: int = 5) -> dict:
    quantiles = {"median_s": median, "p10_s": 0.9 * median, "p90_s": 1.2 * median}
    return {"compile_s": 31.25, "seconds": [median] * n} | quantiles


def step_row(batch: int, precision: str, median: float | None) -> dict:
    """A row of train_step.py; without a median, of one that failed."""
    row = {"batch_size": batch, "precision": precision, "strategy": "mesh", "devices": 1}
    if median is None:
        return row | {"failed": "Out of memory | 95 GiB"}
    figures = {"samples_per_s": 6 * batch / median, "samples_per_s_per_device": 71.25}
    figures |= {"tflops": 123.4, "mfu": None if precision == "float32" else 0.456}
    figures |= {"temporary_bytes": 1_230_000_000, "peak_memory_bytes": 2_340_000_000}
    return row | spread(median) | figures


def train_step(*rows: tuple[int, str, float | None], **environment) -> dict:
    return record("train_step", **environment) | {
        "rows": [step_row(*row) for row in rows],
        "minimum_flops": {"iteration": 14.8e9},
        "peak": {"flops": 989e12, "bandwidth": 3.35e12},
        "matmul_tflops": {"bfloat16": 798.1},
        "wall": {"iterations": 1000, "seconds": 35.5},
    }


def h100() -> dict:
    slow, fast = (64, "float32", 0.004), (64, "bfloat16", 0.002)
    return train_step(slow, (512, "float32", None), fast, (128, "bfloat16", 0.003))


def h200() -> dict:
    rows = (64, "float32", 0.002), (512, "float32", 0.01), (64, "bfloat16", 0.0021)
    return train_step(*rows, kind="NVIDIA H200", jaxlib="0.13.0")


def peers() -> dict:
    keras = spread(6.5) | {"turns": [{}] * 3, "ratios": [1.5, 1.25, 1.0]}
    versions = {"keras": {"versions": {"keras": "3.15", "tensorflow": "2.21"}}}
    return record("peers", implementations=versions, results={"ours": spread(8.5), "keras": keras})


def compose() -> dict:
    row = {"name": "3 min", "music_s": 180.0, "notes": 987, "cold": spread(6.25)}
    return record("compose", sound="a SoundFont", rows=[row | {"warm": spread(1.5, n=1)}])


def tpu_compile(scale: float) -> dict:
    part = {"flops": scale * 1e12, "bytes_accessed": scale * 8e9, "temporary_bytes": scale * 3e8}
    part |= {"main_bytes": scale * 1e9, "bound_s": scale * 0.01, "peak_flops": 197e12}
    part |= {"collectives": [{"bytes": 1024}, {"bytes": 11_000_000}]}
    one = {"topology": "v5e:1x2", "chips": 2, "parts": {"critic update": part, "iteration": part}}
    config = CONFIG | {"training": {"batch_size": 512}}
    return record("tpu_compile", slices=[one | {"config": config}])


def gpu_compile(scale: float) -> dict:
    moved = {"convolution": scale * 2e9, "fusion": scale * 6e9}
    part = {"kernels": 9, "kernels_by_kind": {"convolution": 5, "copy": 4}, "bytes_by_kind": moved}
    part |= {"bytes_moved": scale * 8e9, "temporary_bytes": scale * 3e8, "flops": scale * 1e12}
    part |= {"with_transpose": 3, "activation_transposes": {"bf16[8,2]": 2}}
    part |= {"convolution_dtypes": {"bf16": 5}, "collectives": [{"bytes": 11_000_000}]}
    part |= {"roofline_s": scale * 0.01, "peak_flops": 989e12}
    one = {"topology": "H100:2", "chips": 2, "parts": {"iteration": part}}
    config = CONFIG | {"training": {"batch_size": 512}}
    extra = {"compiler": {"jax-cuda13-plugin": "1.2"}, "flags": {"xla_a": True}}
    return record("gpu_compile", slices=[one | {"config": config}], **extra)


def kernels() -> dict:
    row = {"kind": "fusion", "kernels": 3, "kernel_s": 0.002, "bytes": 4e9, "flops": 0.0}
    row |= {"roofline_s": 0.0012}
    one = row | {"name": "loop.1", "source": "jit/add"}
    found = {"wall_s": 0.003, "other_s": 0.0005, "traced_iterations": 5}
    return record("kernels", kinds=[row], kernels=[one], batch_size=64, **found)


def repeat() -> dict:
    row = {"mode": "default", "equal": False, **spread(0.25)}
    return record("repeat", iterations=20, rows=[row])


def without(tree: dict, name: str) -> dict:
    return {key: value for key, value in tree.items() if key != name}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder as benchmarks/."""
    shutil.copytree(BENCHMARKS / "results", tmp_path / "results")
    shutil.copy(BENCHMARKS / "README.md", tmp_path)
    return tmp_path


def page(report, folder: Path, **contents: dict) -> str:
    """What is written below the mark, with more records in the folder."""
    for name, content in contents.items():
        write(folder / "results" / f"{name}.json", content)
    report.write_readme(folder)
    return (folder / "README.md").read_text().partition(report.START)[2]


def command(report, monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, words)])
    return report.records.command(report.run)


def test_the_page_of_the_project_is_what_its_records_give(report, folder):
    (folder / "README.md").write_text(f"# By hand\n\n{report.START}what was here\n")
    text = page(report, folder)
    assert (folder / "README.md").read_text() == f"# By hand\n\n{report.START}{text}"
    assert text == (BENCHMARKS / "README.md").read_text().partition(report.START)[2]
    drawn, committed = (
        {path.name for path in (f / "plots").iterdir()} for f in (folder, BENCHMARKS)
    )
    assert drawn == committed


def test_tables_hold_the_figures(report, folder):
    text = page(report, folder, h100=h100(), peers=peers(), compose=compose())
    assert "NVIDIA H100; jax 0.12.1, Python 3.13.0, commit 0123456789ab and changes" in text
    for line in (
        "| 64 | bfloat16 | mesh | 1 | 31.2 | 5 | 2.000, 1.800, 2.400 | 192,000 | 71.25 | 123.4 "
        "| 45.6% | 1.23 | 2.34 |",
        "| 512 | float32 | mesh | 1 |  |  | failed: Out of memory / 95 GiB |  |  |  |  |  |  |",
        "| ours | 31.2 | 5 | 8.500, 7.650, 10.20 |  |",
        "| keras | 31.2 | 3 | 6.500, 5.850, 7.800 | 1.25, 1.00 to 1.50 |",
        "| melody | music, s | notes | n | new process: median, p10, p90, s | second call, s |",
        "| 3 min | 180 | 987 | 5 | 6.250, 5.625, 7.500 | 1.500 |",
    ):
        assert line in text.splitlines()
    assert "Peak of one device: 989 TFLOP/s in bfloat16, 3.35 TB/s." in text
    assert "1000 iterations from nothing, compiling included: 35.50 s" in text
    assert "keras 3.15, tensorflow 2.21." in text
    for block in text.split("\n\n"):  # every row has the cells of its header
        assert len({line.count("|") for line in block.splitlines() if line[:1] == "|"}) <= 1


def test_a_column_without_any_value_is_left_out(report):
    content = train_step((64, "float32", 1.5))
    content["rows"][0] |= {"peak_memory_bytes": None, "seconds": [1.5]}
    text, _ = report.section(Path("x.json"), content)
    first = "batch | precision | strategy | devices | compile, s | n | iteration, s"
    last = "examples/s | examples/s a device | TFLOP/s | GB temporary"
    assert f"| {first} | {last} |" in text.splitlines()
    assert "| 31.2 | 1 | 1.500 | 256.0 | 71.25 | 123.4 | 1.23 |" in text


def test_a_section_says_its_config_and_command(report):
    sizes = "Config: filters 64, 128, 256, 512 in both networks; 128 pitches; 32 steps"
    for content, more in (
        (h100(), ""),  # several batches and precisions: the rows say theirs
        (train_step((128, "bfloat16", 1.0)), "; batch 128; bfloat16"),
        (peers(), "; batch 64; float32"),
        (tpu_compile(1.0), "; batch 256 a chip; float32"),
        (compose(), "; float32"),
    ):
        lines = report.section(Path("x.json"), content)[0].splitlines()
        assert f"{sizes}{more}." in lines and not any("Made by" in line for line in lines)
    content |= {"command": "uv run python x.py"}
    content["config"]["model"] = CONFIG["model"] | {"critic_filters": [8]}
    text, _ = report.section(Path("x.json"), content)
    assert "filters 64, 128, 256, 512 in the generator, 8 in the critic" in text
    assert "Made by `uv run python x.py`." in text.splitlines()


def test_compiled_before_and_after_stand_side_by_side(report, folder):
    earlier = tpu_compile(2.0)
    parts = earlier["slices"][0]["parts"]
    parts["critic update"] = parts.pop("iteration")
    for name in ("main_bytes", "bound_s"):  # which earlier versions did not have
        del parts["critic update"][name]
    text = page(report, folder, tpu_compile=tpu_compile(1.0), tpu_compile_before=earlier)
    assert "## tpu_compile\n" in text and "## tpu_compile_before" not in text
    least = report.tables.peaks.minimum(configs.from_dict(CONFIG))["critic_update"]
    before, after = 2e12 / (256 * least), 1e12 / (256 * least)
    assert (
        f"| v5e:1x2 | 256 | critic update | 2000 → 1000 | {before:.2f} → {after:.2f} "
        "| 16.00 → 8.00 | - → 1.00 | 600 → 300 | 1 (11.0 MB) → 1 (11.0 MB) | - → 10.00 "
        f"| - → {least * 256 / 197e12 / 0.01:.0%} |"
    ) in text.splitlines()
    assert "| v5e:1x2 | 256 | iteration | - → 1000 |" in text
    (folder / "results" / "tpu_compile_before.json").unlink()
    assert "| v5e:1x2 | 256 | critic update | 1000 |" in page(report, folder)


def test_what_is_compiled_for_gpus(report, folder):
    for path in (folder / "results").glob("gpu_compile*"):
        path.unlink()
    text = page(report, folder, gpu_compile=gpu_compile(1.0), gpu_compile_before=gpu_compile(2.0))
    least = report.tables.peaks.minimum(configs.from_dict(CONFIG))["iteration"] * 256 / 989e12
    assert (
        "| H100:2 | 256 | iteration | 9 → 9 | 5 → 5 | 4 → 4 | 3 → 3 | 2 → 2 | 16.00 → 8.00 "
        "| 12.00 → 6.00 | 600 → 300 | 2000 → 1000 | bf16 → bf16 | 1 (11.0 MB) → 1 (11.0 MB) "
        f"| 20.00 → 10.00 | {least / 0.02:.0%} → {least / 0.01:.0%} |"
    ) in text.splitlines()
    assert "Compiler: jax-cuda13-plugin 1.2. With xla_a=True." in text
    _, figure = report.section(Path("x.json"), gpu_compile(1.0))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [8.0]


def test_kernels_and_repeated_runs(report, folder):
    several = h100()
    several["rows"][0]["together"] = 10
    text = page(report, folder, kernels=kernels(), repeat=repeat(), h100=several)
    assert "| fusion | 3 | 2.000 | 4.00 | 2000 | 0.0 | 1.200 |" in text
    assert "| loop.1 | 2.000 | 4000.0 | 2000 | 0.0 | 1.200 | jit/add |" in text
    assert "| default | False | 5 | 250.0, 225.0, 300.0 |" in text
    assert "| 64 | float32 | mesh | 1 | 10 | 31.2 |" in text


def test_a_before_of_what_has_no_arrows_has_its_own_section(report, folder):
    text = page(report, folder, h100=h100(), h100_before=h200())
    assert "## h100\n" in text and "## h100_before\n" in text


def test_plots_are_pngs_and_the_same_each_time(report, folder):
    on_devices = stored("scaling_cpu") | {"simulated": False}
    text = page(report, folder, h100=h100(), scaling=on_devices)
    plots = {path.name: path.read_bytes() for path in (folder / "plots").iterdir()}
    assert plots.keys() >= {"h100.png", "peers_cpu.png", "tpu_compile.png", "scaling.png"}
    for name, content in plots.items():
        assert content.startswith(PNG)
        assert f"](plots/{name})" in text and f"![](plots/{name})" not in text
    page(report, folder)
    assert all((folder / "plots" / name).read_bytes() == old for name, old in plots.items())


def test_plots_show_the_figures(report):
    _, figure = report.section(Path("x.json"), h100())
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["float32, mesh"] == [[64, 96_000]]
    assert lines["bfloat16, mesh"] == [[64, 192_000], [128, 256_000]]
    _, figure = report.section(Path("x.json"), peers())
    assert [bar.get_width() for bar in figure.axes[0].patches] == [8.5, 6.5]
    _, figure = report.section(Path("x.json"), tpu_compile(1.0))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [8.0, 8.0]
    content = stored("scaling_cpu")
    _, figure = report.section(Path("x.json"), content)
    for axes, kind in zip(figure.axes, ("weak", "strong"), strict=True):
        rows = [row for row in content["rows"] if row["scaling"] == kind]
        points = [[row["devices"], row["examples_per_s"]] for row in rows]
        assert axes.lines[0].get_xydata().tolist() == points


def test_nothing_timed_is_a_table_without_a_plot(report):
    one = [(64, "float32", 0.1), (128, "float32", None)]
    nothing = [peers() | {"results": {}}, stored("scaling_cpu") | {"rows": []}, train_step()]
    for content in (train_step(*one), train_step(*one[1:]), *nothing):
        text, figure = report.section(Path("some.json"), content)
        assert figure is None and "plots/" not in text and "| --- |" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not a record of these benchmarks (Expecting"),
        ("[]", "its benchmark is None"),
        (json.dumps({"benchmark": "other"}), "its benchmark is 'other'"),
        (json.dumps(without(h100(), "rows")), "(no 'rows')"),
        (json.dumps(h100() | {"rows": [without(step_row(1, "x", 1.0), "p10_s")]}), "(no 'p10_s')"),
        (json.dumps(h100() | {"rows": [step_row(1, "x", 1.0) | {"compile_s": None}]}), "None"),
    ],
)
def test_a_broken_record_is_one_line_and_changes_nothing(
    report, folder, monkeypatch, capsys, content, reason
):
    path = folder / "results" / "broken.json"
    path.write_text(content)
    before = (folder / "README.md").read_text()
    assert command(report, monkeypatch, "--folder", folder) == 2
    assert command(report, monkeypatch, path, path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"report: {path}: ") and reason in line for line in lines)
    assert (folder / "README.md").read_text() == before and not (folder / "plots").exists()


def test_a_broken_record_of_before_is_named(report, folder):
    write(folder / "results" / "tpu_compile_before.json", record("tpu_compile"))
    with pytest.raises(UserError, match=r"tpu_compile_before\.json: .*no 'slices'"):
        report.write_readme(folder)


def test_two_accelerators_compared(report, tmp_path, monkeypatch, capsys):
    other = h200()
    other["config"]["training"] |= {"critic_updates": 4, "batch_size": 128}  # rows say their batch
    a, b = write(tmp_path / "a.json", h100()), write(tmp_path / "b.json", other)
    plot = tmp_path / "plot.png"
    assert command(report, monkeypatch, a, b, "--plot", plot) == 0
    machine = "jax 0.12.1, Python 3.13.0, commit 0123456789ab and changes"
    assert capsys.readouterr().out.splitlines() == [
        f"A: 1 x NVIDIA H100; {machine}",
        f"B: 1 x NVIDIA H200; {machine}",
        "not the same in both:",
        "  training.critic_updates: A 5, B 4",
        "  packages.jaxlib: A 0.12.0, B 0.13.0",
        "",
        "                      A, ms    B, ms   B / A  ahead       compile, s: A      B",
        "64  float32   mesh    4.000    2.000   0.500  B 2.00x              31.2   31.2",
        "64  bfloat16  mesh    2.000    2.100   1.050  A 1.05x ~            31.2   31.2",
        "Medians of an iteration, n: A 5, B 5; ~ where ranges from p10 to p90 overlap.",
        "",
        "only in A: 128 bfloat16 mesh",
        "only in B: 512 float32 mesh",
        "A failed: Out of memory | 95 GiB",
    ]
    assert plot.read_bytes().startswith(PNG)


def test_peers_compared(report, tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "a.json", peers())
    assert command(report, monkeypatch, path, path) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "",
        "          A, s     B, s   B / A  ahead       compile, s: A      B",
        "ours     8.500    8.500   1.000  even ~               31.2   31.2",
        "keras    6.500    6.500   1.000  even ~               31.2   31.2",
        "Medians of an iteration, n: A 3 to 5, B 3 to 5; ~ where ranges from p10 to p90 overlap.",
    ]


@pytest.mark.parametrize(
    ("contents", "words", "reason"),
    [
        ([h100()], [], "give no record, or two to compare"),
        ([], ["no.json", "no.json"], "no.json: no such file"),
        ([], ["--plot", "x.png"], "--plot: draws a comparison; give two records"),
        ([compose(), compose()], [], "compose records are not compared"),
        ([h100(), peers()], [], "A is of train_step, B of peers: give two of one benchmark"),
        ([h100(), train_step()], [], "have timed nothing in common: A 64 float32 mesh; 64"),
        ([h100(), h200()], ["--plot", "x.pdf"], "--plot x.pdf: the name must end in .png"),
        ([h100(), h200()], ["--plot", "no/x.png"], "--plot: no: no such folder"),
        ([], ["--folder", "no"], "--folder: no/README.md: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    report, tmp_path, monkeypatch, capsys, contents, words, reason
):
    monkeypatch.chdir(tmp_path)
    paths = [write(tmp_path / f"{n}.json", content) for n, content in enumerate(contents)]
    assert command(report, monkeypatch, *paths, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("report: ") and reason in line


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    path = write(tmp_path / "a.json", peers())
    reads, writes = os.pipe()
    os.close(reads)
    words = [sys.executable, str(BENCHMARKS / "report.py"), path, path]
    done = subprocess.run(words, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert done.returncode == 1 and done.stderr == ""


def test_a_readme_without_the_mark_stays(report, folder):
    (folder / "README.md").write_text("# By hand\n")
    with pytest.raises(UserError, match="is missing"):
        report.write_readme(folder)
    assert (folder / "README.md").read_text() == "# By hand\n"
