"""The dock widget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, Label, ProgressBar, PushButton, Slider, create_widget
from napari.layers import Image
from napari.utils import progress
from napari.utils.notifications import show_info
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_neural_style.cache import pretrained_path
from napari_neural_style.settings import PRESETS, StyleSettings, style_strength, style_weight_of
from napari_neural_style.viewer.choices import why_not
from napari_neural_style.viewer.fields import Fields, labelled
from napari_neural_style.viewer.layers import reader_of, shown_plane
from napari_neural_style.viewer.outputs import Outputs
from napari_neural_style.viewer.worker import Callbacks, Clock, Job, Report, timed

if TYPE_CHECKING:
    import napari

    from napari_neural_style.engine.transfer import Step

_BAR = 1000


class StyleTransferWidget(Container):
    """Choose two layers, press Run, and watch the content take the style.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose layers are used and to which the results are added.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._job: Job | None = None
        self._outputs: Outputs | None = None
        self._activity: progress | None = None
        self._clock = Clock()
        self._asked_for_features = False
        self._told = ""
        self._build()
        super().__init__(widgets=[self._body, self.message, self._buttons, self.bar], labels=False)
        self._scroll_area = _put_in_scroll_area(self, self._body)
        self._connect()
        self._take_selected_layer()
        self._update()

    def _build(self) -> None:
        image = {"annotation": Image}
        self.content = create_widget(
            name="content", label="content layer", options={"tooltip": "The image layer to repaint."}, **image
        )
        self.style = create_widget(
            name="style",
            label="style layer",
            options={"tooltip": "The image layer whose style it takes."},
            **image,
        )
        self.swap = PushButton(text="⇅ Swap content and style", tooltip="Exchange the two layers.")
        self.preset = ComboBox(
            name="preset",
            choices=list(PRESETS),
            tooltip="Sets all the fields below at once. Change them after.",
        )
        self.style_strength = Slider(
            name="style_strength",
            label="style strength",
            value=50,
            min=0,
            max=100,
            tooltip="Style weight against content weight, 0 to 100; every 20 points are a factor of ten.",
        )
        self._fields = Fields()
        self._main = labelled(
            self.content, self.style, self.swap, self.preset, self.style_strength, *self._fields.basic
        )
        self.size, self.steps, self.save_every = (self._fields[n] for n in ("size", "steps", "save_every"))
        self.features, self.device = self._fields["features"], self._fields["device"]
        self.download = PushButton(text="Download 548 MB", tooltip="Get VGG-19's own features once, 80 MB are kept.")
        self.use_self_taught = PushButton(
            text="Self-taught now",
            tooltip="Learn the features from these two images in seconds; no download.",
        )
        self._question_text = _note("VGG-19's trained features are not on this machine.")
        self._question = Container(
            widgets=[
                self._question_text,
                Container(widgets=[self.download, self.use_self_taught], layout="horizontal", labels=False),
            ],
            labels=False,
        )
        self._question.margins = self._question[1].margins = (0, 0, 0, 0)
        self.toggle_advanced = PushButton(text="▸ Advanced", tooltip="Show or hide all other settings.")
        self._body = Container(
            widgets=[
                self._main,
                self._question,
                self.toggle_advanced,
                self._fields.advanced,
            ],
            labels=False,
        )
        self.message = _note("")
        self.run = PushButton(text="Run", tooltip="Start repainting the content layer.")
        self.pause = PushButton(text="Pause", enabled=False, tooltip="Hold the run after the present step, or go on.")
        self.stop = PushButton(text="Stop", enabled=False, tooltip="End the run; the picture so far is kept.")
        self._buttons = Container(widgets=[self.run, self.pause, self.stop], layout="horizontal", labels=False)
        self._buttons.margins = (0, 0, 0, 0)
        self.bar = ProgressBar(value=0, min=0, max=_BAR, visible=False)

    def _connect(self) -> None:
        self.swap.changed.connect(self._swap)
        self.preset.changed.connect(self._apply_preset)
        self.style_strength.changed.connect(self._apply_strength)
        for name in ("style_weight", "content_weight", "normalization"):
            self._fields[name].changed.connect(self._show_strength)
        self.use_self_taught.changed.connect(self._choose_self_taught)
        self.download.changed.connect(self._download)
        self.toggle_advanced.changed.connect(self._toggle_advanced)
        self.run.changed.connect(self._run)
        self.pause.changed.connect(self._pause)
        self.stop.changed.connect(self._stop)
        for group in (self._main, self._fields.advanced):
            group.changed.connect(self._on_change)
        self._viewer.dims.events.ndisplay.connect(self._update)
        self._viewer.dims.events.order.connect(self._update)
        self.native_parent_changed.connect(self._on_parent_changed)
        self.native.setObjectName("napari-neural-style")

    @property
    def settings(self) -> StyleSettings:
        """The settings that the fields hold; assigning fills the fields.

        Raises
        ------
        ValueError
            If a field holds no value that its setting can have.
        """
        return self._fields.read()

    @settings.setter
    def settings(self, settings: StyleSettings) -> None:
        self._fields.write(settings)
        self._show_strength()
        self._update()

    def _apply_preset(self, name: str) -> None:
        self.settings = dataclasses.replace(PRESETS[name], device=self.device.value)

    def _apply_strength(self, strength: float) -> None:
        try:
            weight = style_weight_of(strength, self.settings)
        except ValueError:
            return
        with self._fields["style_weight"].changed.blocked():
            self._fields["style_weight"].value = f"{weight:.6g}"
        self._update()

    def _show_strength(self) -> None:
        try:
            strength = style_strength(self.settings)
        except ValueError:
            return
        with self.style_strength.changed.blocked():
            self.style_strength.value = round(strength)

    def _swap(self) -> None:
        self.content.value, self.style.value = self.style.value, self.content.value

    def _toggle_advanced(self) -> None:
        shown = not self._fields.advanced.visible
        self._fields.advanced.visible = shown
        self._scroll_area.updateGeometry()
        self.toggle_advanced.text = f"{'▾' if shown else '▸'} Advanced"

    def _choose_self_taught(self) -> None:
        self.features.value = "self-taught"

    def _take_selected_layer(self) -> None:
        """Take the selected image layer as content, and another as style."""
        self.reset_choices()
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        active = self._viewer.layers.selection.active
        if isinstance(active, Image) and active in self.content.choices:
            self.content.value = active
        others = [layer for layer in images if layer is not self.content.value]
        if self.style.value is self.content.value and others:
            self.style.value = others[0]

    def reset_choices(self, *args: Any) -> None:
        """Follow the viewer's layer list."""
        super().reset_choices(*args)
        if hasattr(self, "run"):
            self._update()

    def why_not_run(self) -> str:
        """Return why the present choice cannot run, in words, or nothing."""
        if self.content.value is None or self.style.value is None:
            return "Open two images first: one to repaint, one whose style it takes (try File › Open Sample)."
        try:
            settings = self.settings
            shown_plane(self.content.value, self._viewer.dims)
            shown_plane(self.style.value, self._viewer.dims)
        except ValueError as error:
            return str(error)
        if settings.features == "pretrained" and not pretrained_path().is_file():
            return "Download the pretrained features first, or choose self-taught ones."
        device = settings.device.partition(":")[0]
        reason = "" if device in ("auto", "cpu") else why_not(device)
        return f"{device} cannot be used: {reason}. Choose auto or cpu." if reason else ""

    def _update(self) -> None:
        """Enable what can be pressed now, and say why what cannot cannot."""
        running = self._job is not None
        self.pause.enabled = self.stop.enabled = running
        self.pause.text = "Resume" if self._job is not None and self._job.paused else "Pause"
        wants = self.features.value == "pretrained" or (self.features.value == "auto" and not self._asked_for_features)
        self._question.visible = wants and not running and not pretrained_path().is_file()
        if running:
            self.run.enabled = False
            return
        reason = self.why_not_run()
        self.run.enabled = not reason
        self._say(self._told or reason)

    def _on_change(self) -> None:
        """Forget how the last run ended: what counts now is the present choice."""
        self._told = ""
        self._update()

    def _say(self, text: str) -> None:
        self.message.value = text
        self.message.visible = bool(text)

    def _run(self) -> None:
        reason = self.why_not_run()
        if self._job is not None or reason:
            self._say(reason or str(self.message.value))
            return
        content, style, settings = self.content.value, self.style.value, self.settings
        plane = shown_plane(content, self._viewer.dims)
        read_content = reader_of(content, plane)
        read_style = reader_of(style, shown_plane(style, self._viewer.dims))

        def work(report: Report) -> Iterator[Step]:
            report("Loading PyTorch…", 0.0)
            from napari_neural_style.engine.transfer import stylize

            return stylize(read_content(), read_style(), settings, progress=report)

        self._outputs = Outputs(self._viewer, content, style, plane)
        self._asked_for_features = True
        self._start(work, "Style transfer")

    def _download(self) -> None:
        def work(report: Report) -> Iterator[Step]:
            report("Connecting…", 0.0)
            from napari_neural_style.engine.download import download_pretrained

            def received(done: int, total: int) -> None:
                of = f" of {total / 1e6:.0f}" if total else ""
                report(f"Downloading: {done / 1e6:.0f}{of} MB", done / total if total else 0.0)

            download_pretrained(received)
            return iter(())

        self._start(work, "VGG-19 download")

    def _start(self, work: Callable[[Report], Iterator[Step]], description: str) -> None:
        self._job = Job(work, Callbacks(self._on_status, self._on_step, self._on_end), self.native)
        self._told = ""
        self._clock = Clock()
        self._activity = progress(total=_BAR, desc=description)
        self.bar.value = 0
        self.bar.visible = True
        self._say("Starting…")
        self._update()
        self.native.repaint()
        self._job.start()

    def _pause(self) -> None:
        if self._job is None:
            return
        if self._job.paused:
            self._job.resume()
        else:
            self._job.pause()
            self._say(f"Paused. {self.message.value}")
        self._clock = Clock()
        self._update()

    def _stop(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._say("Stopping…")

    def _on_status(self, message: str, fraction: float) -> None:
        self._say(message)
        self._advance(fraction)

    def _on_step(self, step: Step) -> None:
        if self._outputs is not None:
            self._outputs.show(step)
        self._advance(step.done)
        if self._job is not None and not self._job.stopping:
            left = self._clock.left(step.done)
            remaining = f" · {timed(left)} left" if left is not None else ""
            paused = "Paused. " if self._job.paused else ""
            self._say(f"{paused}Step {step.index} of {step.total} · loss {step.losses.total:.4g}{remaining}")

    def _advance(self, fraction: float) -> None:
        value = int(fraction * _BAR)
        self.bar.value = value
        if self._activity is not None:
            self._activity.n = value
            self._activity.refresh()

    def _on_end(self, error: str | None) -> None:
        stopped = self._job is not None and self._job.stopping
        self._end_job()
        self.features.reset_choices()
        if error:
            self._told = error
            show_info(error)
        else:
            self._told = "Stopped; the picture so far is kept." if stopped else "Done."
        self._update()

    def _end_job(self) -> None:
        self._job = None
        self.bar.visible = False
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        outputs, self._outputs = self._outputs, None
        if outputs is not None:
            outputs.finish()

    def _on_parent_changed(self, parent: Any) -> None:
        """Stop when the dock is closed: napari then takes the widget out of it without destroying it."""
        if parent is None and self._job is not None:
            self._job.abandon()
            self._end_job()


def _note(text: str) -> Label:
    """Return a text that wraps to the dock's width."""
    label = Label(value=text)
    native = label.native
    assert isinstance(native, QLabel)
    native.setWordWrap(True)
    native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)
    return label


def _put_in_scroll_area(outer: Container, inner: Container) -> QScrollArea:
    """Put a scroll area around a container inside another; magicgui's own is lost when napari docks a widget."""
    layout = outer.native.layout()
    layout.removeWidget(inner.native)
    area = _VerticalScrollArea()
    column = QWidget()
    QVBoxLayout(column).addWidget(inner.native)
    column.layout().setContentsMargins(0, 0, 0, 0)
    column.layout().addStretch()
    area.setWidget(column)
    layout.insertWidget(0, area, stretch=1)
    return area


class _VerticalScrollArea(QScrollArea):
    """A scroll area that is never narrower than what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return the content's least width beside a scroll bar."""
        width = self.widget().minimumSizeHint().width() if self.widget() is not None else 0
        return QSize(width + self.verticalScrollBar().sizeHint().width(), 120)
