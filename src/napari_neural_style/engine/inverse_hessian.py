"""What steps and changes of the gradient tell of the inverse Hessian, as L-BFGS uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_IN_FULL = 160 * 2**20
"""Bytes that the pairs may take in float32; in bfloat16 they take half, and products half as long again."""
_VALUES, _GPU_VALUES = 2**21, 2**24
"""Values that are turned into the vectors' dtype at a time: a processor's caches hold few, a GPU takes many."""
_PIECES = 8
"""Parts of a product that are worked on side by side on a processor."""
_CURVATURE = 1e-10
"""Least cosine of the angle between a step and the change of the gradient for a pair to be remembered."""


def kept_in_full(pairs: int, size: int) -> bool:
    """Tell whether so many pairs of float32 vectors of a size are kept as they are, instead of in bfloat16."""
    return 2 * pairs * size * torch.float32.itemsize <= _IN_FULL


class _Added(NamedTuple):
    """A pair whose products are not known yet: its place, (1,), whether it counts, and sᵀy and yᵀy."""

    place: Tensor
    counts: Tensor
    curvature: Tensor
    square: Tensor


class InverseHessian:
    """The inverse Hessian of BFGS from the last pairs of a step s and the change y that it made to the gradient.

    With steps and changes as columns of S and Y, R the upper triangle of SᵀY, D its diagonal, and γ² = sᵀs / yᵀy of
    the last pair,

    H g = γ g + S w - γ Y u, where u = R⁻¹ Sᵀ g and w = R⁻ᵀ ((D + γ YᵀY) u - γ Yᵀ g).

    A product reads all pairs twice, in one piece where they are kept in full; the two-loop recursion goes through them
    one by one. What is decided by numbers stays on the device: nothing waits for a GPU.

    Parameters
    ----------
    pairs : int
        How many it remembers at most.
    like : Tensor
        A vector (N,) of the dtype and on the device of those to come.

    Attributes
    ----------
    most : int
        How many pairs it remembers at most.
    count : Tensor
        How many it remembers, int64 of shape ().

    References
    ----------
    Byrd, Nocedal and Schnabel (1994), "Representations of quasi-Newton matrices and their use in limited memory
    methods", theorem 2.2. γ is the geometric mean of the two scales of Barzilai and Borwein (1988), equations 5 and 6.
    """

    def __init__(self, pairs: int, like: Tensor) -> None:
        self.most = pairs
        self._size, self._dtype, self._device = like.numel(), like.dtype, like.device
        rounded = like.dtype == torch.float32 and not kept_in_full(pairs, self._size)
        self._kept_as = torch.bfloat16 if rounded else like.dtype
        # A place more than pairs: one is free for a pair before it is known whether that counts.
        self._places = pairs + 1
        self._written = 0
        self._rows: Tensor | None = None
        # By place: products of steps and changes with the last gradient, of steps and of changes with changes.
        # In float64, which Apple's GPUs do not know.
        device = torch.device("cpu") if self._device.type == "mps" else self._device
        self._met = torch.zeros(self._places, 2, dtype=torch.float64, device=device)
        self._across = self._met.new_zeros(self._places, self._places)
        self._along = torch.zeros_like(self._across)
        self._scale = self._met.new_ones(())
        # The oldest pair lies at place `first`, the others follow.
        self._first = torch.zeros((), dtype=torch.int64, device=device)
        self.count = torch.zeros_like(self._first)
        self._added: _Added | None = None

    @property
    def empty(self) -> bool:
        """Whether no pair was ever added."""
        return self._rows is None

    def add(self, step: Tensor, change: Tensor) -> None:
        """Remember a step and how it changed the gradient, (N,) each, if the loss is convex along it.

        A change of 0 counts as none. The gradient that is multiplied next must be the changed one.
        """
        kept = step.to(self._kept_as), change.to(self._kept_as)
        step, change = (rounded.to(self._dtype) for rounded in kept)
        curvature, square, length = self._dot(step, change), self._dot(change, change), self._dot(step, step)
        counts = curvature > _CURVATURE * (square * length).sqrt()
        place = ((self._first + self.count) % self._places)[None]
        if self._rows is None:
            self._rows = self._room()
        if self._written < self._places:
            # What does not count is multiplied too, with 0, and must be finite for that.
            self._rows[self._written] = 0
            self._written += 1
        for kind, row in enumerate(kept):
            if place.device == self._device:
                self._rows[:, kind].index_copy_(0, place, row[None])
            else:  # Apple's GPUs, where PyTorch 2.5 cannot copy by index; the place waits for nothing
                self._rows[int(place), kind] = row
        self._scale = torch.where(counts, (length / square).sqrt(), self._scale)
        count = self.count + counts
        self._first, self.count = (self._first + (count > self.most)) % self._places, count.clamp(max=self.most)
        self._added = _Added(place, counts, curvature, square)

    def forget(self, where: Tensor) -> None:
        """Forget all pairs if a condition holds."""
        self.count = self.count.masked_fill(where.to(self.count.device), 0)

    def times(self, gradient: Tensor) -> Tensor:
        """Return the product with a gradient (N,)."""
        self._meet(gradient)
        places = torch.arange(min(self._written, self.most), device=self.count.device)
        order, known = (self._first + places) % self._places, places < self.count
        both = known & known[:, None]
        ones = torch.eye(len(places), dtype=self._met.dtype, device=self._met.device)
        upper = torch.where(both, self._across[order][:, order].triu(), ones)
        along = self._along[order][:, order].masked_fill(~both, 0)
        steps, changes = self._met[order].masked_fill(~known[:, None], 0).unbind(1)
        u = torch.linalg.solve_triangular(upper, steps[:, None], upper=True)[:, 0]
        rest = upper.diagonal() * u + self._scale * (along @ u - changes)
        w = torch.linalg.solve_triangular(upper.T, rest[:, None], upper=False)[:, 0]
        factors = torch.zeros_like(self._met).index_copy_(0, order, torch.stack([w, -self._scale * u], 1))
        factors = factors.to(self._dtype).to(self._device).flatten()
        product = gradient * self._scale.to(self._dtype).to(self._device)
        for columns, rows in self._parts():
            _add_combination(product[columns], rows, factors[: len(rows)])
        return product

    def state(self) -> dict[str, Tensor]:
        """Return all that it remembers."""
        if self._rows is None:
            return {}
        return {
            "places": torch.stack([self._first, self.count]),
            "pairs": self._rows[: self._written].clone(),
            "products": torch.cat([self._met, self._across, self._along], 1),
            "scale": self._scale,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what :meth:`state` returned, unless for another number of pairs, where nothing is remembered yet."""
        if "pairs" not in state or len(state["products"]) != self._places:
            return
        self._first, self.count = state["places"].to(self.count.device).unbind()
        self._written = len(state["pairs"])
        self._rows = self._room()
        self._rows[: self._written] = state["pairs"]
        parts = torch.split(self._exactly(state["products"]), [2, self._places, self._places], 1)
        self._met, self._across, self._along = (part.clone() for part in parts)
        self._scale = self._exactly(state["scale"])

    def _meet(self, gradient: Tensor) -> None:
        """Multiply all rows with a gradient; how their products changed is what the last change's are with them."""
        met = torch.zeros_like(self._met)
        for columns, rows in self._parts():
            met.view(-1)[: len(rows)] += self._exactly(_products(rows, gradient[columns]))
        if self._added is not None:
            place, _, curvature, square = self._added
            across, along = (met - self._met).unbind(1)
            self._across.index_copy_(1, place, across[:, None])
            self._along.index_copy_(1, place, along[:, None]).index_copy_(0, place, along[None])
            self._across[place, place], self._along[place, place] = curvature, square
        self._met, self._added = met, None

    def _parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows in the vectors' dtype, as many columns at a time as there is room for, and which they are."""
        assert self._rows is not None
        rows = self._rows[: self._written].flatten(0, 1)
        values = _VALUES if rows.is_cpu else _GPU_VALUES
        most = self._size if rows.dtype == self._dtype else max(1, values // len(rows))
        for start in range(0, self._size, most):
            columns = slice(start, start + most)
            yield columns, rows[:, columns].to(self._dtype)

    def _room(self) -> Tensor:
        return torch.empty(self._places, 2, self._size, dtype=self._kept_as, device=self._device)

    def _dot(self, one: Tensor, other: Tensor) -> Tensor:
        return self._exactly(torch.dot(one, other))

    def _exactly(self, found: Tensor) -> Tensor:
        return found.to(self._met.device).to(self._met.dtype)


def _products(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the products of rows (K, N) with a vector (N,)."""
    if not rows.is_cpu:
        return rows @ vector
    (pieces, rest), (parts, end) = _pieces(rows), _pieces(vector)
    return torch.bmm(parts[:, None], pieces.transpose(1, 2)).sum((0, 1)).addmv_(rest, end)


def _add_combination(vector: Tensor, rows: Tensor, factors: Tensor) -> None:
    """Add rows (K, N), multiplied with factors (K,), to a vector (N,)."""
    if not rows.is_cpu:
        vector += rows.T @ factors  # Apple's GPUs may lose what a product adds to a part of a vector
        return
    (pieces, rest), (parts, end) = _pieces(rows), _pieces(vector)
    parts[:, None].baddbmm_(factors.expand(_PIECES, 1, -1), pieces)
    end.addmv_(rest.T, factors)


def _pieces(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return columns (..., N) as P pieces (P, ..., N // P), and the fewer than P that are left, in the same memory.

    MKL's product of rows and a vector uses one thread on AMD's processors, and one does not read as fast as memory can
    be read. The pieces are shared out among threads, as many as there are.
    """
    each = values.shape[-1] // _PIECES
    whole = _PIECES * each
    return values[..., :whole].view(*values.shape[:-1], _PIECES, each).movedim(-2, 0), values[..., whole:]
