"""Every number a user can turn, and the presets.

The dock widget, the command line, the documentation and the provenance are made from
:class:`StyleSettings`; nothing else spells a setting out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_neural_style.setting import Changes, LayerWeights, Setting, check_weights, checked

LAYERS: dict[str, int] = {
    **{f"conv1_{i}": 64 for i in (1, 2)},
    **{f"conv2_{i}": 128 for i in (1, 2)},
    **{f"conv3_{i}": 256 for i in (1, 2, 3, 4)},
    **{f"conv4_{i}": 512 for i in (1, 2, 3, 4)},
    **{f"conv5_{i}": 512 for i in (1, 2, 3, 4)},
}
"""VGG-19's sixteen convolutions, from the input up, and how many filters each has."""

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")

AUTO_LAYERS: dict[str, dict[str, dict[str, float]]] = {
    "trained": {"content": {"conv4_2": 1.0}, "style": dict.fromkeys(STYLE_LAYERS, 1.0)},
    # Self-taught filters above conv3_1 take most of the learning, lose the content's structure and match the style no
    # better; of the others the lowest decide colour and brush, so they weigh most.
    "self-taught": {"content": {"conv3_1": 1.0}, "style": {"conv1_1": 5.0, "conv2_1": 1.5, "conv3_1": 0.5}},
}
"""What ``"auto"`` layers mean, for trained features (pretrained or from a file) and for self-taught ones."""


def _listed(features: str, term: str) -> str:
    return ",".join(f"{layer}={weight:g}" for layer, weight in AUTO_LAYERS[features][term].items())


def _setting(default: Any, help: str, **details: Any) -> Any:
    metadata = {"setting": Setting(default, help, **details)}
    return (
        field(default_factory=dict, metadata=metadata) if default == {} else field(default=default, metadata=metadata)
    )


@dataclass(frozen=True)
class StyleSettings:
    """The settings of one run, frozen, and checked when made.

    Every field has a default, so ``StyleSettings()`` is the preset ``balanced``. What a field means, with its range
    and unit, is told by ``SETTINGS["size"].tooltip``, beside this class, and by ``docs/settings.md`` for all.

    Raises
    ------
    ValueError
        If a value is out of its range, of the wrong type or not among the choices; the message says which.
    """

    mode: str = _setting(
        "transfer",
        "What to make: transfer repaints the content in the style; content reconstructs the content from "
        "its features; texture synthesises the style alone.",
        choices=("transfer", "content", "texture"),
        basic=True,
    )
    size: int | tuple[int, int] = _setting(
        512,
        "Working size: the longer side of the image that is optimised (the aspect ratio is kept, and a smaller content "
        "is enlarged), or height × width (384x512) to squeeze both images to that size.",
        low=32,
        high=65536,
        unit="px",
        basic=True,
    )
    scales: int = _setting(
        3,
        "Image sizes from coarse to fine, each twice the one before; the last is the working size. "
        "Steps are shared out evenly, but every scale except the last takes at most 100. "
        "More scales give larger brush strokes and an earlier first picture.",
        low=1,
        high=8,
    )
    steps: int = _setting(
        150,
        "Optimiser steps over all scales together; each is one evaluation of the loss and its gradient.",
        low=1,
        high=1_000_000,
        unit="steps",
        basic=True,
    )
    save_every: int = _setting(
        50,
        "Save the picture every this many steps: in napari as a layer, with the command stylize as a file in its "
        "--steps-dir. The last step is always saved.",
        low=1,
        high=1_000_000,
        unit="steps",
        basic=True,
        live=True,
    )
    preview_interval: float = _setting(
        0.25, "Shortest time between two updates of napari's live picture.", low=0.1, high=3600.0, unit="s"
    )
    min_improvement: float = _setting(
        0.0,
        "Go on to the next scale, or stop, when the loss falls by less than this fraction per step "
        "(averaged over ten steps). 0 turns it off; as long as min_structure moves the content weight, it waits.",
        low=0.0,
        high=0.5,
    )
    content_weight: float = _setting(
        1.0, "Content weight α; more keeps more of the content.", low=0.0, high=1e12, live=True
    )
    style_weight: float = _setting(16.0, "Style weight β; more gives a stronger style.", low=0.0, high=1e12, live=True)
    variation_weight: float = _setting(
        0.0, "Total variation weight γ; more makes the picture smoother.", low=0.0, high=1e12, live=True
    )
    min_structure: float = _setting(
        0.66,
        "Keeps the content recognisable: while the correlation between the blurred luminance of picture and content "
        "is below this, the content weight is raised, up to 16 times. 0 turns this off.",
        low=0.0,
        high=0.95,
    )
    content_layers: LayerWeights = _setting(
        "auto",
        "VGG-19 layers whose features the content term compares, with weights. auto is "
        f"{_listed('trained', 'content')}, and {_listed('self-taught', 'content')} for self-taught features.",
    )
    style_layers: LayerWeights = _setting(
        "auto",
        "VGG-19 layers whose Gram matrices the style term compares, with weights. auto is "
        f"{_listed('trained', 'style')}, and {_listed('self-taught', 'style')} for self-taught features.",
    )
    normalization: str = _setting(
        "relative",
        "Constants in front of the loss terms: relative makes each term unitless, paper follows the "
        "equations of Gatys et al., mean uses mean squared errors.",
        choices=("relative", "paper", "mean"),
    )
    rescale_features: bool = _setting(
        False,
        "Rescale the network so that every filter's mean activation over the two images is 1, "
        "as in Gatys et al. (2016).",
    )
    optimizer: str = _setting(
        "lbfgs",
        "Optimiser of the pixels: lbfgs, which needs far fewer steps, or adam.",
        choices=("lbfgs", "adam"),
        relief=True,
    )
    learning_rate: float = _setting(
        1.0,
        "Step size: for adam in units of the normalised image (about 0.02 to 1), for lbfgs a factor on "
        "its own step length, usually 1.",
        low=1e-6,
        high=1e3,
        relief=True,
    )
    history: int = _setting(
        32,
        "Number of past steps that lbfgs uses; each takes the memory of one or two images.",
        low=1,
        high=1000,
        unit="steps",
        relief=True,
    )
    initial: str = _setting(
        "content",
        "What the optimisation starts from where no picture is given for that; modes content and texture then start "
        "from noise.",
        choices=("content", "noise"),
    )
    pooling: str = _setting(
        "average",
        "Pooling between the network's blocks: max, as VGG-19 was trained, or average, as in Gatys et al.",
        choices=("max", "average"),
    )
    padding: str = _setting(
        "auto",
        "What the network sees beyond the edges: zeros, as VGG-19 was trained, which can leave a frame a few pixels "
        "wide, or reflect, the picture mirrored. auto is zeros, and reflect for self-taught features.",
        choices=("auto", "zeros", "reflect"),
    )
    color: str = _setting(
        "style",
        "Colours of the result: style takes the style's palette, content keeps the content's colours, "
        "free leaves them to the style term.",
        choices=("style", "content", "free"),
        basic=True,
        live=True,
    )
    style_scale: float = _setting(
        1.0,
        "Brush size: the factor by which the style image is scaled, after it was shrunk to the working size if it "
        "was larger. Larger values give broader strokes.",
        low=0.1,
        high=4.0,
        basic=True,
    )
    features: str = _setting(
        "auto",
        "Filters of the network: pretrained (VGG-19 trained on ImageNet), self-taught (learned from these "
        "two images in seconds, no download), a file, or auto: pretrained where they are already on disk.",
        basic=True,
    )
    convention: str = _setting(
        "auto",
        "What a features file was trained on: torchvision (RGB, normalised) or caffe (BGR, 0 to 255, mean "
        "subtracted). auto reads it from the file where possible.",
        choices=("auto", "torchvision", "caffe"),
    )
    device: str = _setting(
        "auto",
        "Where to compute: auto, cpu, cuda, cuda:1 and so on, or mps. auto takes the first GPU that can be used, or "
        "the CPU if there is none.",
        basic=True,
    )
    precision: str = _setting(
        "auto",
        "Arithmetic of the convolutions: auto is bfloat16 where that is fast, else int8 on CPUs that multiply 8-bit "
        "integers (VNNI), else float32. Losses and the optimiser are always float32.",
        choices=("auto", "float32", "bfloat16", "int8"),
        relief=True,
    )
    tile: int | str = _setting(
        "auto",
        "Side of the tiles in which pictures too large for memory are processed, a multiple of 16; the result is the "
        "same up to the precision's rounding. auto uses tiles only if the whole picture does not fit, 0 never does. "
        "Up to 16384 px.",
        high=16384,
        unit="px",
        relief=True,
    )
    seed: int = _setting(0, "Seed of noise and of self-taught features.", low=0, high=2**63 - 1)
    changes: Changes = _setting(
        {},
        "Settings that change during the run, with the step from which they hold, such as "
        "100:style_weight=40,color=content;200:color=free. Changing a control during a run adds to it, and so does "
        "the run itself if memory runs out (tile, history) or numbers go wrong (precision, "
        "learning_rate, optimizer, or the three weights divided by the largest).",
    )

    def __post_init__(self) -> None:
        for name in SETTINGS:
            object.__setattr__(self, name, checked(name, getattr(self, name), SETTINGS, LAYERS))
        if self.style_layers == {} and self.mode != "content":
            raise ValueError("style_layers is empty: name at least one layer, such as conv1_1=1, or give auto.")
        if self.content_layers == {} and self.mode == "content":
            raise ValueError("content_layers is empty: name at least one layer, such as conv4_2=1, or give auto.")
        terms = [term for term in self.terms if getattr(self, f"{term}_layers") != {}]
        weights = {f"{term}_weight": getattr(self, f"{term}_weight") for term in terms}
        check_weights(weights, self.changes, self.mode)

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms of the loss that the mode has, of content and style."""
        return {"content": ("content",), "texture": ("style",)}.get(self.mode, ("content", "style"))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON types."""
        values = {name: getattr(self, name) for name in SETTINGS}
        for name in ("content_layers", "style_layers"):
            values[name] = values[name] if values[name] == "auto" else dict(values[name])
        values["size"] = list(self.size) if isinstance(self.size, tuple) else self.size
        values["changes"] = {str(step): dict(turned) for step, turned in self.changes.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StyleSettings:
        """Make settings from :meth:`to_dict`'s result; fields that are missing take their default.

        Raises
        ------
        ValueError
            If a key is no setting (perhaps of a newer version) or a value is out of range.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"Settings must be a mapping of names to values, not {type(values).__name__}.")
        unknown = sorted(str(key) for key in values if key not in SETTINGS)
        if unknown:
            raise ValueError(
                f"Unknown setting {', '.join(unknown)}: perhaps written by a newer version of "
                "napari-neural-style. Update it, or remove the entry."
            )
        return cls(**{str(key): value for key, value in values.items()})


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in dataclasses.fields(StyleSettings)}
"""The details of every field of :class:`StyleSettings`, in its order."""

PRESETS: dict[str, StyleSettings] = {
    "balanced": StyleSettings(),
    "fast": StyleSettings(size=256, scales=2, steps=60, save_every=20),
    "fine": StyleSettings(size=1024, scales=4, steps=400, save_every=100),
    "written": StyleSettings(
        size=(512, 512),
        scales=1,
        steps=500,
        save_every=100,
        content_weight=1.0,
        style_weight=1e6,
        content_layers={"conv4_2": 1.0},
        style_layers=dict.fromkeys(STYLE_LAYERS, 1.0),
        normalization="mean",
        min_structure=0.0,
        optimizer="adam",
        learning_rate=1.0,
        pooling="max",
        color="free",
        features="pretrained",
    ),
    "paper": StyleSettings(
        scales=1,
        steps=500,
        save_every=100,
        content_weight=1.0,
        # The published 1e3 leaves a sum over pixels and filters far above the Gram terms; by eye, see docs/science.md.
        style_weight=3e7,
        content_layers={"conv4_2": 1.0},
        style_layers=dict.fromkeys(STYLE_LAYERS, 0.2),
        normalization="paper",
        min_structure=0.0,
        rescale_features=True,
        optimizer="lbfgs",
        initial="noise",
        pooling="average",
        color="free",
        features="pretrained",
    ),
}
"""The presets by name; the first is the default."""
