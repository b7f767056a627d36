"""In what colours a TIFF's values are, where they are no RGB, nor grey with 0 as black."""

from __future__ import annotations

from typing import Any

CIELAB, CMYK, WHITE_IS_0 = "CIELAB", "CMYK", "grey with 0 as white"


def colors_of(page: Any) -> str:
    """Return one of the words above for a page of tifffile's, or nothing."""
    import tifffile

    kinds = tifffile.PHOTOMETRIC
    words = {kinds.MINISWHITE: WHITE_IS_0, kinds.SEPARATED: CMYK} | dict.fromkeys(
        (kinds.CIELAB, kinds.ICCLAB, kinds.ITULAB), CIELAB
    )
    return words.get(getattr(page, "photometric", None), "")
