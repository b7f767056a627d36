"""Style transfer on arrays; knows nothing of napari."""
