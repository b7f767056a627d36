"""Makes docs/gallery.md and its pictures: python scripts/gallery.py [--vgg FILE] [NAME...].

The page's commands and snippets are run as they stand there. Names are those in gallery_results.py; `inputs` writes
the pictures they begin with to the present folder, `page` writes the page alone. The result with trained features needs
the original VGG-19's file in Caffe's convention; without it that picture stays as it is.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image, ImageOps

from gallery_results import RESULTS, VGG, Result

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FOLDER = DOCS / "gallery.md", DOCS / "pictures" / "gallery"
HEIGHT, GAP, MOST_BYTES = 336, 4, 80_000

INTRODUCTION = """\
# Gallery

Every picture on this page was made by the command or the few lines under it, at a small size and on two cores, where
most take ten to thirty seconds. At the left is what went in. Most write `result.png`: rename it before the next.
A script wrote this page and made the pictures:

```
python scripts/gallery.py           # from a clone: the page and its pictures
python scripts/gallery.py inputs    # only the pictures to begin with, into the present folder
```
"""

CREDITS = """\
## What went in

The painting, the watercolour, the stained glass and the cells are the plugin's own, drawn and simulated by code. The
others come with scikit-image: the cat (Stéfan van der Walt, CC0), the coffee (Rachel Michetti, CC0), the camera man
(Lav Varshney, CC0), the retina (Mikael Häggström, CC0), the rocket (SpaceX, public domain), the deep field (NASA,
public domain), and the tissue (Center for Microscopy and Molecular Imaging, no known copyright restrictions). The
trained filters are VGG-19's (Simonyan and Zisserman 2014, CC BY 4.0).
"""


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for result in RESULTS:
        kind = "python" if result.is_python else ""
        parts.append(
            f"## {result.title}\n\n{result.says}\n\n![{_alternative(result)}](pictures/gallery/{result.name}.jpg)\n\n"
            f"```{kind}\n{result.runs.rstrip()}\n```\n"
        )
    return "\n".join([*parts, CREDITS])


def _alternative(result: Result) -> str:
    names = [Path(name).stem for name in result.shows]
    return f"{result.title}: {', '.join(names)}, and what came of {'it' if len(names) == 1 else 'them'}"


def write_inputs(folder: Path) -> None:
    """Write the pictures that the results begin with."""
    from napari_neural_style.viewer import samples

    pictures = {
        "cat": samples.photograph(),
        "painting": samples.painting(),
        "tissue": samples.histology(),
        "watercolour": samples.watercolor(),
        "cells": samples.dividing_cells()[4],
        "glass": samples.stained_glass(),
        "coffee": skimage.data.coffee(),
        "camera": skimage.data.camera(),
        "rocket": skimage.data.rocket(),
        "retina": skimage.data.retina(),
        "field": skimage.data.hubble_deep_field(),
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")


def make(result: Result) -> None:
    """Run what stands in the page, in the present folder, and write the picture."""
    from napari_neural_style.cli import main

    for name in result.made:  # of the result before, which need not be one that the command replaces
        Path(name).unlink(missing_ok=True)
    if result.is_python:
        exec(result.runs, {"__name__": "gallery"})
    else:
        for line in result.runs.splitlines():
            _, *arguments = shlex.split(line)
            assert main(arguments) == 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{result.name}.jpg"
    sheet = _sheet([Image.open(name) for name in result.shows], [Image.open(name) for name in result.made])
    for quality in (88, 82, 76, 70, 60):
        sheet.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path.name}: {sheet.width} × {sheet.height}, {path.stat().st_size / 1000:.0f} kB", flush=True)


def _sheet(went_in: list[Image.Image], made: list[Image.Image]) -> Image.Image:
    """Return what went in, small and one below the other, and at its right what was made."""
    small = (HEIGHT - GAP * (len(went_in) - 1)) // len(went_in) if len(went_in) > 1 else HEIGHT // 2
    squares = [ImageOps.fit(picture.convert("RGB"), (small, small)) for picture in went_in]
    shown = [ImageOps.contain(picture.convert("RGB"), (2 * HEIGHT, HEIGHT)) for picture in made]
    height = max([picture.height for picture in shown] + [HEIGHT])
    sheet = Image.new("RGB", (small + sum(GAP + picture.width for picture in shown), height), "white")
    for number, square in enumerate(squares):
        sheet.paste(square, (0, number * (small + GAP)))
    left = small
    for picture in shown:
        sheet.paste(picture, (left + GAP, (height - picture.height) // 2))
        left += GAP + picture.width
    return sheet


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vgg", type=Path, help="the original VGG-19's features")
    parser.add_argument("names", nargs="*", choices=["inputs", "page", *(result.name for result in RESULTS), []])
    options = parser.parse_args()
    if options.names == ["inputs"]:
        write_inputs(Path.cwd())
        return
    PAGE.write_text(page(), encoding="utf-8")
    chosen = [result for result in RESULTS if not options.names or result.name in options.names]
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder))
        os.environ["NAPARI_NEURAL_STYLE_CACHE"] = f"{folder}/cache"
        if options.vgg:
            shutil.copy(options.vgg, f"{folder}/{VGG}")
        os.chdir(folder)
        for result in chosen:
            if options.vgg or not result.needs_vgg:
                make(result)
            else:
                print(f"{result.name}: left as it is, --vgg is not given", flush=True)


if __name__ == "__main__":
    _main()
