"""What results are called, and what the titles of runs call the layers that they are made from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_neural_style.viewer.provenance import sources_of

if TYPE_CHECKING:
    from napari.layers import Image

_STATES, _NUMBER = r"step \d+|planes|live", r"( \[\d+\])?$"
_STATE = re.compile(rf" · ({_STATES}|saved steps){_NUMBER}")
"""What the name of a result ends with."""
_MADE = r"( × .*| · content.*)"
_OF_RESULTS = re.compile(_MADE + _STATE.pattern)
"""What the name of a result has behind its content's."""
_LIVE = re.compile(rf"{_MADE} · live{_NUMBER}")
"""The same while its run goes on; until that ends, only the name tells that it is one."""
_TITLE = re.compile(rf"(.+) · ({_STATES})")


def source_name(layer: Image) -> str:
    """Return what titles call a layer: its name, or for a result that of the content it was first made from."""
    name = sources_of(layer).get("content")
    # The content of a result may be another result; that of which is in its name, whether it is open or not.
    return _OF_RESULTS.sub("", name) if isinstance(name, str) and name else _LIVE.sub("", layer.name)


def style_name(layer: Image) -> str:
    """Return what titles call a style: its name, or for a result that of its run, in brackets."""
    return f"({_STATE.sub('', layer.name)})" if sources_of(layer) or _LIVE.search(layer.name) else str(layer.name)


def title_of(layer: Image) -> str:
    """Return what the name of a result begins with: the title of its run, or all of a name that a user gave it."""
    found = _TITLE.match(layer.name)
    return found[1] if found else str(layer.name)
