"""The house keeps its shape: imports point one way, and the style is checked."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from conftest import in_new_process

PACKAGE = Path("musegan_jax")
# Each layer may import those before it, and its own.
LAYERS = [
    {"errors", "terminal", "shapes", "hashing"},
    {"limits"},
    {"files", "numerics", "rng", "pianoroll"},
    {"config"},
    {"data"},
    {"models"},
    {"rendering"},
    {"runs"},
    {"composing"},
    {"evaluation"},
    {"training"},
    {"api", "commands", "data_commands", "arguments", "data_arguments", "cli", "__main__"},
]


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def imports_of(path: Path) -> set[str]:
    """The first part below `musegan_jax` of all that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("musegan_jax"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("musegan_jax.")}
    return found


def layer(name: str) -> int:
    return next(n for n, names in enumerate(LAYERS) if name in names)


def test_imports_point_one_way():
    for path in modules():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports_of(path):
            assert layer(name) <= layer(own), f"{path} imports {name}"


def test_the_step_needs_only_jax_flax_optax_orbax_and_numpy():
    """It must import on an accelerator image that has nothing else."""
    code = (
        "import sys\n"
        "for name in ('mido', 'pretty_midi', 'matplotlib', 'tqdm', 'music21', 'symusic',\n"
        "             'tensorboardX', 'jaxtyping', 'beartype'): sys.modules[name] = None\n"
        "import musegan_jax.training.step, musegan_jax.training.parallel\n"
        "loaded = {m for m in sys.modules if m.startswith('musegan_jax.')}\n"
        "assert not {'musegan_jax.data.midi', 'musegan_jax.files'} & loaded, loaded"
    )
    in_new_process(code)


def test_modules_are_small():
    lengths = {path: len(path.read_text().splitlines()) for path in modules()}
    assert not {path: n for path, n in lengths.items() if n > 350}


def test_style():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "."],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_links_lead_somewhere():
    pages = [Path(f"{name}.md") for name in ("README", "CONTRIBUTING", "CHANGELOG")]
    pages += [*Path("docs").glob("*.md"), *Path("benchmarks").glob("*.md")]
    pages += PACKAGE.glob("assets/*.md")
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if "://" not in target
    ]
    assert len(links) > 20
    assert not [(str(page), to) for page, to in links if not (page.parent / to).exists()]
