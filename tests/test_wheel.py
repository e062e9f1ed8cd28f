"""What `pip install` gives, away from the checkout."""

import shutil
import subprocess
import sys

import pytest

UV = shutil.which("uv")


def call(*words, cwd=None) -> str:
    words = [str(word) for word in words]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the programs of a new environment that has the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    environment, python = folder / "env", folder / "env" / "bin" / "python"
    if UV:  # from its cache, in seconds
        call(UV, "build", "-q", "--wheel", "--out-dir", folder, ".")
        call(UV, "venv", "-q", "--python", sys.executable, environment)
        install = [UV, "pip", "install", "-q", "--python", python]
    else:
        call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ".")
        call(sys.executable, "-m", "venv", environment)
        install = [python, "-m", "pip", "install", "-q"]
    (wheel,) = folder.glob("*.whl")
    call(*install, wheel)
    return environment / "bin"


@pytest.mark.slow
def test_an_installed_package_composes_and_trains_by_name(installed, tmp_path, data_file):
    command = installed / "musegan-jax"
    assert "--training.batch_size=" in call(command, "train", "--help", cwd=tmp_path)
    version = call(installed / "python", "-m", "musegan_jax", "--version", cwd=tmp_path)
    assert version == call(command, "--version", cwd=tmp_path)
    written = call(command, "compose", "twinkle", "--out", "song", cwd=tmp_path).split()
    assert written == [f"song/twinkle.{kind}" for kind in ("mid", "wav", "png")]
    words = ["--config", "tiny", "--workdir", "run", f"--data.dataset={data_file}"]
    written = call(command, "train", *words, cwd=tmp_path).split()
    assert all((tmp_path / path).stat().st_size > 100 for path in written) and len(written) == 3
    # The shipped configs, and no module that only the tests have.
    code = (
        "import musegan_jax.config as c, sys\n"
        "shipped = 'chorales lpd5 own palestrina quickstart reference tiny'\n"
        "assert ' '.join(sorted(c.shipped())) == shipped\n"
        "assert all('site-packages' in str(path) for path in c.shipped().values())\n"
        "from importlib import resources\n"
        "assert resources.files('musegan_jax.evaluation').joinpath('listen.html').is_file()\n"
        "page = resources.files('musegan_jax.studio').joinpath('page')\n"
        "assert page.joinpath('index.html').is_file() and page.joinpath('main.js').is_file()\n"
        "import musegan_jax as mg\n"
        "print(mg.accompany(mg.load(), 'twinkle').shape)\n"
    )
    assert call(installed / "python", "-c", code, cwd=tmp_path) == "(1, 192, 128, 4)\n"
