"""How many cases are made: few by default, many in `make soak`, and what ran is told at the end."""

from __future__ import annotations

import os
from collections import Counter

SOAK = bool(os.environ.get("SOAK"))
SCALE = float(os.environ.get("SOAK") or 1)
"""`SOAK=1` makes as many cases as `make soak` does, `SOAK=0.1` a tenth of them."""

ran: Counter[str] = Counter()
"""Cases that were made, by what they are about."""


def cases(few: int, many: int) -> int:
    """Return how many cases to make."""
    return max(few, round(many * SCALE)) if SOAK else few


def count(what: str, number: int = 1) -> None:
    """Note that cases were made."""
    ran[what] += number
