"""The demo: a napari window on the sample pair, with the dock open and the run going."""

from __future__ import annotations

import napari


def show_demo() -> None:
    """Open napari on the sample pair, start a run, and wait until the window is closed."""
    viewer = napari.Viewer(title="napari-neural-style")
    viewer.open_sample("napari-neural-style", "pair")
    _, widget = viewer.window.add_plugin_dock_widget("napari-neural-style", "Style Transfer")
    widget.content.value = viewer.layers["photograph"]
    widget.style.value = viewer.layers["painting"]
    widget.run.changed.emit(True)
    napari.run()
