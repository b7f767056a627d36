"""A stack that is still being made, as an array for napari: what is not there yet is transparent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.viewer.preferences import ANOTHER_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    from napari_neural_style.planes import Index
    from napari_neural_style.stack_store import StackStore
    from napari_neural_style.viewer.stacks import Stack

UInt8 = npt.NDArray[np.uint8]


class StackArray:
    """Planes on disk, with the axes of the layer that they were made from, read when they are looked at.

    The thread of a run writes finished planes by their index, and the main thread reads.

    Parameters
    ----------
    store : StackStore
        Holds the planes, shape ``(*planes, height, width, 3)``.
    axes : sequence of int
        The layer's axis for each axis of the planes, ascending.
    shown : (int, int)
        The layer's axes down and across a plane.
    ndim : int
        How many axes the layer has.

    Attributes
    ----------
    shape : tuple of int
        The layer's axes, 1 for those that are neither stacked nor shown, and RGBA.
    filled : set
        Indices of the planes that are there.
    preview : (index, ndarray) or None
        The picture so far, (h, w, 3), of the plane that is being made.
    stack : Stack or None
        What it is painted from, as long as planes are missing.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, store: StackStore, axes: Sequence[int], shown: tuple[int, int], ndim: int) -> None:
        self._store = store
        self._axes = tuple(axes)
        *planes, height, width, _ = store.shape
        self._shown = shown
        lengths = dict(zip((*axes, *shown), (*planes, height, width), strict=True))
        self.shape = (*(lengths.get(axis, 1) for axis in range(ndim)), 4)
        self.filled: set[Index] = set()
        self.preview: tuple[Index, UInt8] | None = None
        self.stack: Stack | None = None

    @property
    def ndim(self) -> int:
        """Number of axes, RGBA included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def planes(self) -> UnfinishedPlanes:
        """The planes alone, to be written and read by their index."""
        return UnfinishedPlanes(self._store, self.filled)

    def __deepcopy__(self, memo: dict[int, Any]) -> StackArray:
        """Return itself: a duplicated layer shows the same planes."""
        return self

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all planes."""
        whole = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> UInt8:
        """Return a part; only its planes are read."""
        parts = self._for_each_axis(key if isinstance(key, tuple) else (key,))
        chosen = [np.atleast_1d(np.arange(self.shape[axis])[parts[axis]]) for axis in self._axes]
        block = self._block(chosen)
        # Whole planes along the layer's axes; what is left of the key cuts out of them.
        rest = [parts[axis] for axis in range(self.ndim)]
        for axis in self._axes:
            rest[axis] = 0 if isinstance(parts[axis], (int, np.integer)) else slice(None)
        return block[tuple(rest)]

    def _for_each_axis(self, key: tuple[Any, ...]) -> list[Any]:
        where = next((i for i, part in enumerate(key) if part is Ellipsis), len(key))
        after = key[where + 1 :]
        between = [slice(None)] * (self.ndim - where - len(after))
        return [*key[:where], *between, *after]

    def _block(self, chosen: list[npt.NDArray[np.intp]]) -> UInt8:
        """Return whole planes at the crossings of indices along each axis, with the layer's axes."""
        size = self._store.shape[-3:-1]
        lengths = [len(indices) for indices in chosen]
        block = np.zeros((*lengths, *size, 4), np.uint8)
        preview = self.preview
        for place in np.ndindex(*lengths):
            index = tuple(int(indices[i]) for indices, i in zip(chosen, place, strict=True))
            if index in self.filled:
                block[place][..., :3] = self._store[index]
            elif preview is not None and preview[0] == index and preview[1].shape[:2] == size:
                block[place][..., :3] = preview[1]
            else:
                continue
            block[place][..., 3] = 255
        # From planes, down, across, RGBA to the layer's axes in ascending order, then those of length 1 between them.
        named = (*self._axes, *self._shown)
        order = sorted(range(len(named)), key=named.__getitem__)
        moved = block.transpose(*order, len(named))
        missing = [axis for axis in range(self.ndim - 1) if axis not in named]
        return np.expand_dims(moved, missing) if missing else moved


class UnfinishedPlanes:
    """Where a run writes its planes.

    Parameters
    ----------
    store : StackStore
        Takes them.
    filled : set
        Takes the index of each when it is written.
    """

    def __init__(self, store: StackStore, filled: set[Index]) -> None:
        self._store = store
        self._filled = filled
        self.shape = store.shape

    def __getitem__(self, index: Index) -> npt.NDArray[Any]:
        return self._store[index]

    def __setitem__(self, index: Index, plane: UInt8) -> None:
        try:
            self._store[index] = plane
        except OSError as error:
            raise why_unwritten(self._store.path.parent, error, bool(self._filled)) from error
        self._filled.add(index)


def why_unwritten(folder: Path, error: OSError, begun: bool) -> ValueError:
    """Return what to raise where planes cannot be written to a folder, the first or, of those begun, another."""
    then = "Results › Run missing planes does the others when they can." if begun else ANOTHER_FOLDER
    return ValueError(f"Planes cannot be written to {folder}: {error}. {then}")
