"""The question whether to download the trained features."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Container, PushButton

from napari_neural_style.cache import pretrained_path
from napari_neural_style.viewer.native import note


class Question(Container):
    """Asks once whether to download VGG-19's trained features, where they are wanted and not there.

    Attributes
    ----------
    answered : bool
        Whether a run has begun, so that ``auto`` need not be asked about any more.
    """

    def __init__(self) -> None:
        self.download = PushButton(
            text="Download 548 MB",
            tooltip="Get the trained features once, 80 MB are kept. They suit styles in large shapes, pictures of more "
            "than about 1000 px, and published procedures.",
        )
        self.use_self_taught = PushButton(
            text="Use self-taught", tooltip="Choose features that a run learns from the two images, in seconds."
        )
        answers: Container[Any] = Container(
            widgets=[self.download, self.use_self_taught], layout="horizontal", labels=False
        )
        self.text = note("")
        super().__init__(widgets=[self.text, answers], labels=False)
        self.margins = answers.margins = (0, 0, 0, 0)
        self.answered = False

    def follow(self, features: str, running: bool) -> None:
        """Show or hide it, as features are chosen and runs begin and end."""
        meanwhile = "" if features == "pretrained" else " Until they are, Run learns its own (self-taught)."
        self.text.value = f"VGG-19's trained features are not on this machine.{meanwhile}"
        wants = features == "pretrained" or (features == "auto" and not self.answered)
        self.visible = wants and not running and not pretrained_path().is_file()
