from __future__ import annotations

import runpy
from pathlib import Path

from napari_neural_style.settings import SETTINGS

ROOT = Path(__file__).parents[1]


def test_the_page_of_settings_is_what_its_script_makes():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == runpy.run_path(str(ROOT / "scripts" / "settings_page.py"))["page"]()
    assert all(f"| `{name}` |" in page for name in SETTINGS)
