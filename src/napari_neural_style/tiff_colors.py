"""In what colours a TIFF's values are, where they are no RGB, nor grey with 0 as black."""

from __future__ import annotations

from typing import Any

CIELAB, CMYK, YCBCR, WHITE_IS_0 = "CIELAB", "CMYK", "YCbCr", "grey with 0 as white"


def colors_of(page: Any) -> str:
    """Return one of the words above for a page of tifffile's, or nothing."""
    import tifffile

    kinds = tifffile.PHOTOMETRIC
    photometric = getattr(page, "photometric", None)
    if photometric == kinds.YCBCR:
        # These decoders make RGB of it.
        packed = getattr(page.compression, "name", "")
        return "" if any(word in packed for word in ("JPEG", "JP2000", "WEBP")) else YCBCR
    words = {kinds.MINISWHITE: WHITE_IS_0, kinds.SEPARATED: CMYK} | dict.fromkeys(
        (kinds.CIELAB, kinds.ICCLAB, kinds.ITULAB), CIELAB
    )
    return words.get(photometric, "")
