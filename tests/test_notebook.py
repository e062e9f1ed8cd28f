"""docs/python.ipynb runs from its first cell to its last."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path("docs/python.ipynb").resolve()

# In a process of its own: the notebook machinery warns of itself, and warnings are errors here.
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, "run.ipynb")
"""


@pytest.mark.slow
def test_the_notebook_runs_and_shows_something(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "run.ipynb", NOTEBOOK):  # the committed one has its pictures too
        cells = json.loads(path.read_text())["cells"]
        kinds = [kind for c in cells for o in c.get("outputs", ()) for kind in o.get("data", ())]
        assert kinds.count("image/png") == 4 and kinds.count("text/html") == 1  # the sound
