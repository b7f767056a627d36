"""What all doors have in common: whatever comes in works or gets one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from counts import cases, count
from napari_neural_style.settings import SETTINGS

NAMES = st.sampled_from(list(SETTINGS))
ALL_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def many(few: int, soak: int) -> settings:
    return settings(max_examples=cases(few, soak), suppress_health_check=ALL_CHECKS)


def works_or_one_sentence(what: str, call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None where it says in one sentence why it does nothing."""
    count(what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except (ValueError, OSError) as error:
        words = str(error)
        assert 10 < len(words) < 1500, words
        assert "Traceback" not in words
        return None
