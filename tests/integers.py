"""What tests of 8-bit integers need."""

from __future__ import annotations

import pytest

from napari_neural_style.engine.integer_grams import has_integer_grams
from napari_neural_style.engine.quantized import has_int8_products

needs_int8 = pytest.mark.skipif(
    not has_int8_products(), reason="this processor and PyTorch do not multiply 8-bit integers"
)
needs_integer_grams = pytest.mark.skipif(
    not has_integer_grams(), reason="this processor and PyTorch do not multiply 8-bit integers with and without a sign"
)
