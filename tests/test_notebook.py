from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "notebook.py"


def test_the_notebook_runs_and_says_what_it_shows():
    notebook = runpy.run_path(str(SCRIPT))["run"]()
    texts = [output["text"] for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output]
    assert any("the same image: True" in text for text in texts)
    assert any("there is no layer 'conv9_1'" in text for text in texts)
