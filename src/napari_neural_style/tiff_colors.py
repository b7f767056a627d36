"""In what colours a TIFF's values are, where they are no RGB, nor grey with 0 as black."""

from __future__ import annotations

from typing import Any

CIELAB, CMYK, YCBCR, WHITE_IS_0 = "CIELAB", "CMYK", "YCbCr", "grey with 0 as white"


def colors_of(page: Any) -> str:
    """Return one of the words above for a page of tifffile's, or nothing."""
    import tifffile

    kinds, packed = tifffile.PHOTOMETRIC, tifffile.COMPRESSION
    photometric = getattr(page, "photometric", None)
    # What makes RGB of it is the decoder of JPEG and its like.
    if photometric == kinds.YCBCR and page.compression in (
        packed.NONE,
        packed.LZW,
        packed.ADOBE_DEFLATE,
        packed.DEFLATE,
    ):
        return YCBCR
    words = {kinds.MINISWHITE: WHITE_IS_0, kinds.SEPARATED: CMYK} | dict.fromkeys(
        (kinds.CIELAB, kinds.ICCLAB, kinds.ITULAB), CIELAB
    )
    return words.get(photometric, "")
