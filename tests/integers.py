"""What tests of 8-bit integers need."""

from __future__ import annotations

import pytest

from napari_neural_style.engine.quantized import has_int8_products

needs_int8 = pytest.mark.skipif(
    not has_int8_products(), reason="this processor and PyTorch do not multiply 8-bit integers"
)
