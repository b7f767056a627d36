"""Turning a job's controls while it runs."""

from __future__ import annotations

import threading
from typing import Any

from napari_neural_style.settings import StyleSettings


class Steering:
    """What is to change at a job's next step; any thread may turn, the job takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turned: dict[str, Any] = {}
        self._save = False

    def turn(self, **turned: Any) -> None:
        """Let settings have other values from the next step on.

        Raises
        ------
        ValueError
            If one of them cannot be turned during a job, or not to that value.
        """
        checked = StyleSettings(changes={1: turned}).changes.get(1, {})
        with self._lock:
            self._turned.update(checked)

    def save_now(self) -> None:
        """Let the next step be a saved one."""
        with self._lock:
            self._save = True

    def take(self) -> tuple[dict[str, Any], bool]:
        """Return what was turned since the last call, and whether to save."""
        with self._lock:
            found = self._turned, self._save
            self._turned, self._save = {}, False
        return found
