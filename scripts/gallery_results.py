"""The results of the gallery: what is said of each, and the very command or lines that make it; see gallery.py."""

from __future__ import annotations

from dataclasses import dataclass

VGG = "vgg19.safetensors"


@dataclass(frozen=True)
class Result:
    """One picture of the gallery: what is said of it, what goes in, and what is run."""

    name: str
    title: str
    says: str
    shows: tuple[str, ...]
    runs: str
    made: tuple[str, ...] = ("result.png",)

    @property
    def is_python(self) -> bool:
        """Whether it is made by Python, not by a command line."""
        return "import" in self.runs

    @property
    def needs_vgg(self) -> bool:
        """Whether trained features are needed."""
        return VGG in self.runs


RESULTS = (
    Result(
        "cat",
        "A photograph as an oil painting",
        "The plugin's first sample pair, with the default preset at a smaller size.",
        ("cat.png", "painting.png"),
        "napari-neural-style stylize cat.png painting.png -o result.png --features self-taught --size 336 --steps 150",
    ),
    Result(
        "tissue",
        "Stained tissue as a watercolour",
        "Glands stay where they are; the stain becomes pigment.",
        ("tissue.png", "watercolour.png"),
        "napari-neural-style stylize tissue.png watercolour.png -o result.png --features self-taught --size 336 "
        "--steps 150",
    ),
    Result(
        "cells",
        "A fluorescence image as stained glass",
        "One frame of the simulated movie, 160 pixels wide, painted at twice its size.",
        ("cells.png", "glass.png"),
        "napari-neural-style stylize cells.png glass.png -o result.png --features self-taught --size 336 --steps 150",
    ),
    Result(
        "fast",
        "In ten seconds",
        "The preset `fast`: 256 pixels, 60 steps.",
        ("rocket.png", "glass.png"),
        "napari-neural-style stylize rocket.png glass.png -o result.png --preset fast --features self-taught",
    ),
    Result(
        "colours",
        "In its own colours",
        "`--color content` paints the luminance only and gives the photograph's colours back.",
        ("cat.png", "painting.png"),
        "napari-neural-style stylize cat.png painting.png -o result.png --features self-taught --size 336 --steps 150 "
        "--color content",
    ),
    Result(
        "free",
        "Colours left to the style term",
        "With `--color free` nothing is recoloured beforehand: a colour goes where the Gram matrices want it.",
        ("cat.png", "glass.png"),
        "napari-neural-style stylize cat.png glass.png -o result.png --features self-taught --size 336 --steps 150 "
        "--color free",
    ),
    Result(
        "gray",
        "A grey photograph",
        "One channel in, colours out: they are the style's.",
        ("camera.png", "watercolour.png"),
        "napari-neural-style stylize camera.png watercolour.png -o result.png --features self-taught --size 336 "
        "--steps 150",
    ),
    Result(
        "brush",
        "A fine and a broad brush",
        "The style image at half its size, and at three times its size.",
        ("cat.png", "painting.png"),
        "napari-neural-style stylize cat.png painting.png -o fine.png --features self-taught --size 288 --steps 120 "
        "--style-scale 0.5\n"
        "napari-neural-style stylize cat.png painting.png -o broad.png --features self-taught --size 288 --steps 120 "
        "--style-scale 3",
        ("fine.png", "broad.png"),
    ),
    Result(
        "strength",
        "More and less style",
        "Style weight 2, and 200 without the least structure that otherwise keeps the content recognisable.",
        ("coffee.png", "glass.png"),
        "napari-neural-style stylize coffee.png glass.png -o less.png --features self-taught --size 288 --steps 120 "
        "--style-weight 2\n"
        "napari-neural-style stylize coffee.png glass.png -o more.png --features self-taught --size 288 --steps 120 "
        "--style-weight 200 --min-structure 0",
        ("less.png", "more.png"),
    ),
    Result(
        "texture",
        "Texture alone",
        "Mode `texture` leaves the content out. The result can be of any size and shape.",
        ("watercolour.png",),
        "napari-neural-style stylize watercolour.png watercolour.png -o result.png --mode texture "
        "--features self-taught --size 336x480 --steps 150",
    ),
    Result(
        "content",
        "What a layer keeps",
        "Mode `content` starts from noise and looks for a picture with the same features at conv3_1.",
        ("tissue.png",),
        "napari-neural-style stylize tissue.png tissue.png -o result.png --mode content --content-layers conv3_1=1 "
        "--features self-taught --size 336 --steps 150",
    ),
    Result(
        "noise",
        "From noise",
        "The same features and weights, begun with noise instead of the photograph.",
        ("cat.png", "glass.png"),
        "napari-neural-style stylize cat.png glass.png -o result.png --initial noise --features self-taught --size 336 "
        "--steps 200",
    ),
    Result(
        "stain",
        "A style for each stain",
        "What is stained brown becomes glass, the rest watercolour. Regions are labels, here made by scikit-image.",
        ("tissue.png", "glass.png", "watercolour.png"),
        """\
import numpy as np
from skimage.color import rgb2hed
from skimage.filters import gaussian, threshold_otsu
from skimage.io import imread, imsave

from napari_neural_style import StyleSettings, stylize

tissue, glass, watercolour = (imread(f"{name}.png") for name in ("tissue", "glass", "watercolour"))
brown = gaussian(rgb2hed(tissue)[..., 2], 4)
regions = np.where(brown > threshold_otsu(brown), 1, 2)
whole = np.ones((512, 512), int)
*_, last = stylize(
    tissue,
    [(glass, 1), (watercolour, 1)],
    StyleSettings(features="self-taught", size=336, steps=150),
    content_regions=regions,
    style_regions=[whole, 2 * whole],
)
imsave("result.png", (255 * last.image).astype(np.uint8))
""",
    ),
    Result(
        "kept",
        "What is labelled 0 stays",
        "The table is painted, the cup and its saucer are not.",
        ("coffee.png", "painting.png"),
        """\
import numpy as np
from skimage.draw import ellipse
from skimage.io import imread, imsave

from napari_neural_style import StyleSettings, stylize

coffee, painting = imread("coffee.png"), imread("painting.png")
regions = np.ones(coffee.shape[:2], int)
regions[ellipse(202, 280, 187, 206)] = 0  # the cup and its saucer
settings = StyleSettings(features="self-taught", size=336, steps=150)
*_, last = stylize(coffee, painting, settings, content_regions=regions)
imsave("result.png", (255 * last.image).astype(np.uint8))
""",
    ),
    Result(
        "mixed",
        "Two styles at once",
        "A painting and a watercolour, with weights.",
        ("cat.png", "painting.png", "watercolour.png"),
        """\
import numpy as np
from skimage.io import imread, imsave

from napari_neural_style import StyleSettings, stylize

cat, painting, watercolour = (imread(f"{name}.png") for name in ("cat", "painting", "watercolour"))
settings = StyleSettings(features="self-taught", size=336, steps=150)
*_, last = stylize(cat, [(painting, 1), (watercolour, 2)], settings)
imsave("result.png", (255 * last.image).astype(np.uint8))
""",
    ),
    Result(
        "field",
        "Galaxies as brush strokes",
        "Any image can be the style: here the Hubble telescope's deep field.",
        ("retina.png", "field.png"),
        "napari-neural-style stylize retina.png field.png -o result.png --features self-taught --size 336 --steps 150",
    ),
    Result(
        "trained",
        "Trained features, from a file",
        "The original VGG-19's filters up to conv3_4, in place of learned ones. Where a file's keys do not tell what "
        "colours the filters take, `--convention caffe` or `torchvision` does.",
        ("cat.png", "painting.png"),
        f"napari-neural-style stylize cat.png painting.png -o result.png --features {VGG} --size 336 --steps 150 "
        "--style-layers conv1_1=1,conv2_1=1,conv3_1=1 --content-layers conv3_3=1",
    ),
    Result(
        "written",
        "The written procedure",
        "The preset `written`: Adam on the normalised image, squeezed to a square, five style layers, mean squared "
        "errors, no recolouring. It asks for the pretrained features and 512 pixels; without them and at 256 it "
        "gives this.",
        ("cat.png", "painting.png"),
        "napari-neural-style stylize cat.png painting.png -o result.png --preset written --features self-taught "
        "--size 256x256 --steps 300",
    ),
)
