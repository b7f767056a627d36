"""MkDocs hooks: links to files outside docs/ lead to the repository; roles in docstrings are left out."""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Return a page with whole addresses for what lies outside docs/."""
    return re.sub(r"\]\(\.\./", f"]({config.repo_url}/blob/main/", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Return a page without the roles of docstrings, :func: for one, which only other tools turn into links."""
    return re.sub(r":(?:class|func|meth|mod|data|attr):(?=<code>)", "", html)
