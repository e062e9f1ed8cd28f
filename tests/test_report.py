"""The benchmarks' report: tables and plots from records, and two records compared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from musegan_jax import config as configs
from musegan_jax.errors import UserError

ROOT = Path(__file__).parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import report

    return report


def environment(kind: str = "NVIDIA H100", jaxlib: str = "0.12.0") -> dict:
    return {
        "commit": "0123456789abcdef0123+changes",
        "packages": {"jax": "0.12.1", "jaxlib": jaxlib},
        "python": "3.13.0",
        "processes": 1,
        "xla_flags": "",
        "device": {"kind": kind, "platform": "gpu", "count": 1},
        "cpu": {"model": "a processor", "threads": 2},
        "strategy": "mesh",
        "precision": {"networks": "float32", "matmul": "default"},
    }


def spread(median: float) -> dict:
    quantiles = {"median_s": median, "p10_s": 0.9 * median, "p90_s": 1.2 * median}
    return {"seconds": [median] * 5, **quantiles}


def once(seconds: float) -> dict:
    return {"seconds": [seconds], "median_s": seconds, "p10_s": seconds, "p90_s": seconds}


def base(benchmark: str, **environment_of) -> dict:
    config = configs.load(ROOT / "configs" / "reference.py")
    return {
        "benchmark": benchmark,
        "environment": environment(**environment_of),
        "config": config.to_dict(),
    }


def step_row(batch: int, precision: str, median: float) -> dict:
    return {
        "batch_size": batch,
        "precision": precision,
        "strategy": "mesh",
        "devices": 1,
        "compile_s": 31.25,
        **spread(median),
        "iterations_per_s": 1 / median,
        "samples_per_s": 6 * batch / median,
        "samples_per_s_per_device": 6 * batch / median,
        "tflops": 123.4,
        "mfu": None if precision == "float32" else 0.456,
        "temporary_bytes": 1_230_000_000,
        "argument_bytes": 1,
        "peak_memory_bytes": 2_340_000_000,
        "flops": 1.0,
        "bytes_accessed": 1.0,
    }


def failed_row(batch: int, precision: str) -> dict:
    return {
        "batch_size": batch,
        "precision": precision,
        "strategy": "mesh",
        "devices": 1,
        "failed": "Out of memory | 95 GiB",
    }


def train_step(rows: list[dict], **environment_of) -> dict:
    return base("train_step", **environment_of) | {
        "rows": rows,
        "minimum_flops": {"critic_update": 2e9, "generator_update": 2e9, "iteration": 14.8e9},
        "peak": {"flops": 989e12, "bandwidth": 3.35e12},
        "matmul_tflops": {"bfloat16": 798.1},
        "wall": {"iterations": 1000, "seconds": 35.5},
    }


def h100() -> dict:
    rows = [step_row(64, "float32", 0.004), failed_row(512, "float32")]
    rows += [step_row(64, "bfloat16", 0.002), step_row(128, "bfloat16", 0.003)]
    return train_step(rows)


def h200() -> dict:
    rows = [step_row(64, "float32", 0.002), step_row(512, "float32", 0.01)]
    rows.append(step_row(64, "bfloat16", 0.0021))
    return train_step(rows, kind="NVIDIA H200", jaxlib="0.13.0")


def tpu_compile(scale: float) -> dict:
    part = {
        "flops": scale * 1e12,
        "bytes_accessed": scale * 8e9,
        "temporary_bytes": scale * 3e8,
        "argument_bytes": 1,
        "collectives": [{"kind": "all-reduce", "bytes": size} for size in (1024, 11_000_000)],
        "roofline_s": scale * 0.01,
    }
    record = base("tpu_compile")
    config = record["config"] | {"training": {"batch_size": 512}}
    parts = {"critic update": part, "iteration": part}
    return record | {
        "slices": [{"topology": "v5e:1x2", "chips": 2, "config": config, "parts": parts}]
    }


def peers() -> dict:
    ours = {"compile_s": 12.0, **spread(8.5)}
    keras = {"compile_s": 4.0, **spread(6.5), "ratios": [1.5, 1.25, 1.0]}
    described = {"ours": {}, "keras": {"versions": {"keras": "3.15.1", "tensorflow": "2.21.0"}}}
    return base("peers") | {
        "precision": "float32",
        "implementations": described,
        "results": {"ours": ours, "keras": keras},
    }


def scaling() -> dict:
    rows = [
        {
            "scaling": kind,
            "strategy": "pmap",
            "devices": devices,
            "batch_size": 32,
            **spread(0.5),
            "examples_per_s": 71.25,
            "examples_per_s_per_device": 71.25 / devices,
            "collectives": {"count": 2, "share": 0.034 if devices > 1 else None},
        }
        for kind in ("weak", "strong")
        for devices in (1, 2)
    ]
    return base("scaling") | {"simulated": True, "rows": rows}


def input_pipeline() -> dict:
    built = {"files": 400, "files_per_s": 153.2, "before_bytes": 210e6, "peak_bytes": 260e6}
    feed = {name: spread(0.25) for name in ("device", "host", "once")}
    shares = {"shares": [0.0, 0.02, 0.04]}
    cost = {"device": {"median": 0.011, **shares}, "host": {"median": 0.022, **shares}}
    return base("input_pipeline") | {
        "build": [built],
        "feed": {**feed, "cost": cost, "iterations_per_turn": 2},
        "alone": {"draw": spread(0.0005), "host_feed": spread(0.003)},
    }


def compose() -> dict:
    row = {
        "name": "3 min",
        "music_s": 180.0,
        "notes": 987,
        "cold": spread(6.25),
        "warm": once(1.5),
    }
    return base("compose") | {"sound": "a SoundFont", "rows": [row]}


def write(path: Path, record: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    return path


@pytest.fixture
def folder(report, tmp_path) -> Path:
    """A folder as benchmarks/, with a record of every benchmark."""
    (tmp_path / "README.md").write_text(f"# By hand\n\n{report.START}what was here\n")
    for name, record in {
        "h100": h100(),
        "peers": peers(),
        "tpu_compile_before": tpu_compile(2.0),
        "tpu_compile": tpu_compile(1.0),
        "scaling": scaling(),
        "input_pipeline": input_pipeline(),
        "compose": compose(),
    }.items():
        write(tmp_path / "results" / f"{name}.json", record)
    return tmp_path


def command(report, monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, words)])
    return report.records.command(report.run)


def test_tables_hold_the_figures(report, folder):
    report.write_readme(folder)
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# By hand\n\n{report.START}") and "what was here" not in text
    assert "NVIDIA H100; jax 0.12.1, Python 3.13.0, commit 0123456789ab and changes" in text
    for line in (
        "| 64 | bfloat16 | mesh | 1 | 31.2 | 5 | 2.000, 1.800, 2.400 | 192,000 | 192,000 | 123.4 "
        "| 45.6% | 1.23 | 2.34 |",
        "| 512 | float32 | mesh | 1 |  |  | failed: Out of memory / 95 GiB |  |  |  |  |  |  |",
        "| keras | 4.0 | 5 | 6.500, 5.850, 7.800 | 1.25, 1.00 to 1.50 |",
        "| weak | pmap | 2 | 32 | 5 | 500.0, 450.0, 600.0 | 71.25 | 35.62 | 3.4% |",
        "| 400 | 153.2 | 210 | 260 |",
        "| fed by the host | 5 | 250.0, 225.0, 300.0 | 2.2%, 0.4% to 3.6% |",
        "| sent once, used for all | 5 | 250.0, 225.0, 300.0 |  |",
        "| the host's feed of an iteration | 5 | 3.000, 2.700, 3.600 |",
        "| melody | music, s | notes | n | new process: median, p10, p90, s | second call, s |",
        "| 3 min | 180 | 987 | 5 | 6.250, 5.625, 7.500 | 1.500 |",
    ):
        assert line in text.splitlines()
    assert "1000 iterations from nothing, compiling included: 35.50 s" in text
    assert "keras 3.15.1, tensorflow 2.21.0." in text
    widths = [
        {line.count("|") for line in block.splitlines() if line.startswith("|")}
        for block in text.split("\n\n")
    ]
    assert all(len(width) <= 1 for width in widths)  # every row has the cells of its header


def test_each_section_says_its_config(report):
    sizes = "Config: filters 64, 128, 256, 512 in both networks; 128 pitches; 32 steps"
    for record, more in (
        (h100(), ""),  # several batches and precisions: the rows say theirs
        (train_step([step_row(128, "bfloat16", 1.0)]), "; batch 128; bfloat16"),
        (peers(), "; batch 64; float32"),
        (tpu_compile(1.0), "; batch 256 a chip; float32"),
        (scaling(), "; batch 32; float32"),
        (compose(), "; float32"),
    ):
        assert report.origin.config_line(record) == f"{sizes}{more}."
    narrow = compose()
    narrow["config"]["model"]["critic_filters"] = [8]
    line = report.origin.config_line(narrow)
    assert "filters 64, 128, 256, 512 in the generator, 8 in the critic" in line


def test_a_section_gives_the_command_of_its_record(report):
    record = train_step([step_row(64, "float32", 1.0)])
    said, _ = report.section(Path("results/x.json"), record | {"command": "uv run python x.py"})
    assert "Made by `uv run python x.py`." in said.splitlines()
    said, _ = report.section(Path("results/x.json"), record)
    assert "Made by" not in said


def test_a_column_without_any_value_is_left_out(report):
    lines = report.tables.table(("batch", "MFU", "GB"), [[1, "", ""], [2, "", "3"]])
    assert lines == ["| batch | GB |", "| --- | --- |", "| 1 |  |", "| 2 | 3 |"]


def test_compiled_before_and_after_stand_side_by_side(report, folder):
    report.write_readme(folder)
    text = (folder / "README.md").read_text()
    assert "## tpu_compile\n" in text and "## tpu_compile_before" not in text
    (line,) = [line for line in text.splitlines() if "| critic update |" in line]
    least = report.tables.peaks.minimum(configs.load(ROOT / "configs" / "reference.py"))[
        "critic_update"
    ]
    before, after = 2e12 / (256 * least), 1e12 / (256 * least)
    assert line == (
        f"| v5e:1x2 | 256 | critic update | 2000 → 1000 | {before:.2f} → {after:.2f} "
        "| 16.00 → 8.00 | 600 → 300 | 1 (11.0 MB) → 1 (11.0 MB) | 20.00 → 10.00 |"
    )
    (folder / "results" / "tpu_compile_before.json").unlink()
    report.write_readme(folder)
    assert "| v5e:1x2 | 256 | critic update | 1000 |" in (folder / "README.md").read_text()


def test_plots_are_pngs_and_the_same_each_time(report, folder):
    report.write_readme(folder)
    plots = {path.name: path.read_bytes() for path in (folder / "plots").iterdir()}
    assert set(plots) == {"h100.png", "peers.png", "tpu_compile.png", "scaling.png"}
    text = (folder / "README.md").read_text()
    for name, content in plots.items():
        assert content.startswith(PNG)
        assert f"](plots/{name})" in text and f"![](plots/{name})" not in text
    report.write_readme(folder)
    assert all((folder / "plots" / name).read_bytes() == old for name, old in plots.items())


def test_nothing_timed_is_a_table_without_a_plot(report, tmp_path):
    one = [step_row(64, "float32", 0.1), failed_row(128, "float32")]
    for record in (train_step(one), train_step(one[1:]), peers() | {"results": {}}):
        text, figure = report.section(tmp_path / "some.json", record)
        assert figure is None and "plots/" not in text and "| --- |" in text


def without(record: dict, name: str) -> dict:
    return {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not a record of these benchmarks (Expecting"),
        ("[]", "its benchmark is None"),
        (json.dumps({"benchmark": "other"}), "its benchmark is 'other'"),
        (json.dumps(without(h100(), "rows")), "(no 'rows')"),
        (json.dumps(h100() | {"rows": [without(step_row(1, "x", 1.0), "p10_s")]}), "(no 'p10_s')"),
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
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith(f"report: {path}: ") and reason in line
    assert (folder / "README.md").read_text() == before and not (folder / "plots").exists()


def test_a_broken_record_of_before_is_named(report, folder):
    path = write(folder / "results" / "tpu_compile_before.json", base("tpu_compile"))
    with pytest.raises(UserError, match=r"tpu_compile_before\.json: .*no 'slices'"):
        report.load_all(path.parent)


def test_two_accelerators_compared(report, tmp_path, monkeypatch, capsys):
    other = h200()
    other["config"]["training"]["critic_updates"] = 4
    other["config"]["training"]["batch_size"] = 128  # rows say it themselves
    a, b = write(tmp_path / "a.json", h100()), write(tmp_path / "b.json", other)
    plot = tmp_path / "plot.png"
    assert command(report, monkeypatch, a, b, "--plot", plot) == 0
    text = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert max(map(len, text.splitlines())) <= 80
    assert lines[0].startswith("A: 1 x NVIDIA H100") and lines[1].startswith("B: 1 x NVIDIA H200")
    assert "training.critic_updates: A 5, B 4" in lines
    assert "packages.jaxlib: A 0.12.0, B 0.13.0" in lines
    assert "batch_size" not in text
    assert "64 float32 mesh 4.000 2.000 0.500 B 2.00x 31.2 31.2" in lines
    assert "64 bfloat16 mesh 2.000 2.100 1.050 A 1.05x ~ 31.2 31.2" in lines
    assert "Medians of an iteration, n: A 5, B 5; ~ where" in text
    assert lines[-2:] == ["only in B: 512 float32 mesh", "A failed: Out of memory | 95 GiB"]
    assert [line for line in lines if "only in A" in line] == ["only in A: 128 bfloat16 mesh"]
    assert plot.read_bytes().startswith(PNG)


def test_peers_compared(report, tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "a.json", peers())
    assert command(report, monkeypatch, path, path) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "keras 6.500 6.500 1.000 even ~ 4.0 4.0" in lines
    assert "not the same in both:" not in lines


@pytest.mark.parametrize(
    ("records", "words", "reason"),
    [
        ([h100()], [], "give no record, or two to compare"),
        ([], ["--plot", "x.png"], "--plot: draws a comparison; give two records"),
        ([compose(), compose()], [], "compose records are not compared"),
        ([h100(), peers()], [], "A is of train_step, B of peers: give two of one benchmark"),
        ([h100(), train_step([])], [], "have timed nothing in common: A 64 float32 mesh; 64"),
        ([h100(), h200()], ["--plot", "x.pdf"], "--plot x.pdf: the name must end in .png"),
        ([h100(), h200()], ["--plot", "no/x.png"], "--plot: no: no such folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    report, tmp_path, monkeypatch, capsys, records, words, reason
):
    monkeypatch.chdir(tmp_path)
    paths = [write(tmp_path / f"{n}.json", record) for n, record in enumerate(records)]
    assert command(report, monkeypatch, *paths, *words, "--folder", tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("report: ") and reason in line


def test_a_reader_that_leaves_early_is_no_error(report, tmp_path):
    path = write(tmp_path / "a.json", peers())
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "report.py"), path, path],
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writes)
    assert done.returncode == 1 and done.stderr == ""


def test_a_readme_without_the_mark_stays(report, folder):
    (folder / "README.md").write_text("# By hand\n")
    with pytest.raises(UserError, match="is missing"):
        report.write_readme(folder)
    assert (folder / "README.md").read_text() == "# By hand\n"


def test_the_records_of_the_project_can_be_shown(report):
    for path, record in report.load_all(ROOT / "benchmarks" / "results").items():
        text, _ = report.section(path, record)
        assert text.startswith(f"## {path.stem}\n")
