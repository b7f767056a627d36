"""The dock widget."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, ProgressBar, PushButton
from napari.utils import progress
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QApplication

from napari_neural_style import store
from napari_neural_style.cache import pretrained_path
from napari_neural_style.settings import PRESETS, SETTINGS, StyleSettings, style_strength, style_weight_of
from napari_neural_style.viewer.choices import why_not
from napari_neural_style.viewer.curve import LossCurve
from napari_neural_style.viewer.fields import Fields, labelled
from napari_neural_style.viewer.inputs import Inputs
from napari_neural_style.viewer.native import make_accessible, note, put_in_scroll_area, wrapped
from napari_neural_style.viewer.outputs import STEPS_AS, Outputs
from napari_neural_style.viewer.preferences import use_preferences
from napari_neural_style.viewer.presets import PresetFields
from napari_neural_style.viewer.queue import Queue
from napari_neural_style.viewer.results import Results
from napari_neural_style.viewer.sections import Section
from napari_neural_style.viewer.tasks import Task, go_on_task, make_task, why_no_task
from napari_neural_style.viewer.worker import Callbacks, Clock, Job, Report, Work, timed

if TYPE_CHECKING:
    import napari

    from napari_neural_style.engine.steering import Steering
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
        self._task: Task | None = None
        self._steering: Steering | None = None
        self._outputs: Outputs | None = None
        self._activity: progress | None = None
        self._clock = Clock()
        self._asked_for_features = False
        self._turned: dict[str, Any] = {}
        self._filling = False
        self._begun = 0.0
        self._told = ""
        self._build()
        widgets = [self._body, self.message, self._buttons, self._more_buttons, self.bar]
        super().__init__(widgets=widgets, labels=False)
        self._scroll_area = put_in_scroll_area(self, self._body)
        self.reset_choices()
        self._inputs.take_selected()
        self.settings = use_preferences().first_settings(store.last_settings())
        self._presets.show(self.settings)
        self._told = store.why_left_out()
        self._connect()
        make_accessible(self)
        self._update()

    def _build(self) -> None:
        self._inputs = Inputs(self._viewer)
        self.content, self.style, self.swap = self._inputs.content, self._inputs.style, self._inputs.swap
        self._presets = PresetFields()
        self.preset, self.style_strength = self._presets.preset, self._presets.strength
        self._fields = Fields()
        self.size, self.steps, self.save_every = (self._fields[n] for n in ("size", "steps", "save_every"))
        self.features, self.device = self._fields["features"], self._fields["device"]
        self._main = labelled(*self._inputs.main, self.preset, self.style_strength, *self._fields.basic)
        self._build_question()
        self._curve = LossCurve()
        self._sections = {
            "more": Section("Regions and more styles", self._make_more, "Where to paint, and with which styles."),
            "results": Section("Results", lambda: self._results.body, "What to do with the selected result."),
            "curve": Section("Loss curve", lambda: wrapped(self._curve), "Total, content and style loss of the run."),
            "queue": Section("Waiting runs", lambda: wrapped(self._queue), "Runs that start one after another."),
            "presets": Section("Own presets", self._make_presets, "Keep the settings under a name."),
            "advanced": Section("Advanced", lambda: self._fields.advanced, "All other settings."),
        }
        for section in self._sections.values():
            section.made.connect(self._on_section)
        self._body: Container[Any] = Container(
            widgets=[self._main, self._question, *self._sections.values()], labels=False
        )
        self.message = note("")
        self.run = PushButton(text="&Run", tooltip="Start repainting; during a run, let the next one wait.")
        self.pause = PushButton(text="Pa&use", enabled=False, tooltip="Hold the run after the present step, or go on.")
        self.stop = PushButton(text="S&top", enabled=False, tooltip="End the run; the picture so far is kept.")
        self.save_now = PushButton(text="Save &now", enabled=False, tooltip="Keep the present picture as a saved step.")
        self.restore = PushButton(text="Restore &defaults", tooltip="Give all settings the values they came with.")
        self._buttons = Container(widgets=[self.run, self.pause, self.stop], layout="horizontal", labels=False)
        self._more_buttons = Container(widgets=[self.save_now, self.restore], layout="horizontal", labels=False)
        self._buttons.margins = self._more_buttons.margins = (0, 0, 0, 0)
        self.bar = ProgressBar(name="progress", value=0, min=0, max=_BAR, visible=False)

    @cached_property
    def _results(self) -> Results:
        results = Results(self._viewer)
        results.use.changed.connect(self._use_settings)
        results.copy.changed.connect(self._copy_command)
        results.go_on.changed.connect(self._go_on)
        return results

    @cached_property
    def _queue(self) -> Queue:
        queue = Queue()
        queue.changed.connect(self._update)
        return queue

    @property
    def _waiting(self) -> int:
        """How many runs wait."""
        return len(self._queue) if "_queue" in self.__dict__ else 0

    def _make_more(self) -> Container[Any]:
        more = self._inputs.more
        more.each.changed.connect(self._run_each)
        more.body.changed.connect(self._on_change)
        return more.body

    def _make_presets(self) -> Container[Any]:
        self._presets.save.changed.connect(self._save_preset)
        self._presets.delete.changed.connect(self._delete_preset)
        return self._presets.own

    def _on_section(self) -> None:
        """Look after what a section made when it was first opened."""
        make_accessible(self)
        self._update()

    def _build_question(self) -> None:
        self.download = PushButton(text="Download 548 MB", tooltip="Get VGG-19's own features once, 80 MB are kept.")
        self.use_self_taught = PushButton(
            text="Self-taught now", tooltip="Learn the features from these two images in seconds; no download."
        )
        answers: Container[Any] = Container(
            widgets=[self.download, self.use_self_taught], layout="horizontal", labels=False
        )
        text = note("VGG-19's trained features are not on this machine.")
        self._question: Container[Any] = Container(widgets=[text, answers], labels=False)
        self._question.margins = answers.margins = (0, 0, 0, 0)

    def _connect(self) -> None:
        self.preset.changed.connect(self._apply_preset)
        self.restore.changed.connect(self._restore_defaults)
        self.style_strength.changed.connect(self._apply_strength)
        self._fields.changed.connect(self._on_field)
        self.use_self_taught.changed.connect(self._choose_self_taught)
        self.download.changed.connect(self._download)
        for button, press in (
            (self.run, self._run),
            (self.pause, self._pause),
            (self.stop, self._stop),
            (self.save_now, self._save_now),
        ):
            button.changed.connect(press)
        for field in (self.content, self.style):
            field.changed.connect(self._on_change)
        self._viewer.dims.events.ndisplay.connect(self._update)
        self._viewer.dims.events.order.connect(self._update)
        self._viewer.layers.selection.events.active.connect(self._update)
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
        self._filling = True
        try:
            self._fields.write(settings)
        finally:
            self._filling = False
        self._show_strength()
        self._update()

    def _apply_preset(self, name: str) -> None:
        settings = dataclasses.replace(self._presets.settings_of(name), device=self.device.value)
        precision = use_preferences().precision
        self.settings = settings if precision == "auto" else dataclasses.replace(settings, precision=precision)

    def _restore_defaults(self) -> None:
        first = next(iter(PRESETS))
        with self.preset.changed.blocked():
            self.preset.value = first
        self.settings = PRESETS[first]

    def _save_preset(self) -> None:
        try:
            self._tell(f"Kept as {self._presets.keep(self.settings)!r}.")
        except (ValueError, OSError) as error:
            self._tell(str(error))

    def _delete_preset(self) -> None:
        try:
            self._presets.forget()
            self._tell("")
        except (ValueError, OSError) as error:
            self._tell(str(error))

    def _apply_strength(self, strength: float) -> None:
        try:
            weight = style_weight_of(strength, self.settings)
        except ValueError:
            return
        self._fields.put("style_weight", float(f"{weight:.6g}"))
        self._steer()
        self._on_change()

    def _show_strength(self) -> None:
        try:
            strength = style_strength(self.settings)
        except ValueError:
            return
        with self.style_strength.changed.blocked():
            self.style_strength.value = round(strength)

    def _on_field(self, name: str) -> None:
        if self._filling:
            return
        if name in ("style_weight", "content_weight", "normalization"):
            self._show_strength()
        if SETTINGS[name].live:
            self._steer()
        self._on_change()

    def _steer(self) -> None:
        """Let the run that is going have the values of the live fields that differ from its own."""
        if self._steering is None or self._task is None:
            return
        try:
            wanted = self.settings
        except ValueError:
            return
        turned = {}
        for name, details in SETTINGS.items():
            if details.live and getattr(wanted, name) != self._turned.get(name, getattr(self._task.settings, name)):
                turned[name] = getattr(wanted, name)
        self._turned.update(turned)
        if turned:
            self._steering.turn(**turned)

    def _choose_self_taught(self) -> None:
        self.features.value = "self-taught"

    def reset_choices(self, *args: Any) -> None:
        """Follow the viewer's layer list."""
        super().reset_choices(*args)
        self._update()

    def why_not_run(self) -> str:
        """Return why Run cannot be pressed now, or nothing."""
        try:
            settings = self.settings
        except ValueError as error:
            return str(error)
        if reason := why_no_task(self._viewer, self._inputs, settings):
            return reason
        if settings.features == "pretrained" and not pretrained_path().is_file():
            return "Download the pretrained features first, or choose self-taught ones."
        device = settings.device.partition(":")[0]
        reason = "" if device in ("auto", "cpu") else why_not(device)
        return f"{device} cannot be used: {reason}. Choose auto or cpu." if reason else ""

    def _update(self) -> None:
        """Enable what can be pressed now, and say why something cannot."""
        use_preferences()
        if not hasattr(self, "run"):
            return
        running = self._job is not None
        self.pause.enabled = self.stop.enabled = running
        self.save_now.enabled = running and self._steering is not None
        self.pause.text = "Res&ume" if self._job is not None and self._job.paused else "Pa&use"
        self.run.text = "&Run next" if running else "&Run"
        wants = self.features.value == "pretrained" or (self.features.value == "auto" and not self._asked_for_features)
        self._question.visible = wants and not running and not pretrained_path().is_file()
        reason = self.why_not_run()
        self.run.enabled = not reason
        if "_results" in self.__dict__:
            self._results.update()
        if "more" in self._inputs.__dict__:
            self._inputs.more.each.enabled = not reason and len(self._inputs.styles()) > 1
        if not running:
            self._say(self._told or reason)

    def _on_change(self) -> None:
        """Forget how the last run ended: what counts now is the present choice."""
        self._told = ""
        self._update()

    def _say(self, text: str) -> None:
        self.message.value = text
        self.message.visible = bool(text)

    def _tell(self, text: str) -> None:
        """Say something that stays until something else is chosen."""
        self._told = text
        self._update()

    def _run(self) -> None:
        self._enqueue(None)

    def _run_each(self) -> None:
        for style in self._inputs.styles():
            self._enqueue(style)

    def _enqueue(self, only: Any) -> None:
        """Note what is chosen, and start it now or when its turn comes."""
        reason = self.why_not_run()
        if reason:
            self._tell(reason)
            return
        try:
            task = make_task(self._viewer, self._inputs, self.settings, only)
        except ValueError as error:
            self._tell(str(error))
            return
        store.remember(self.settings)
        self._begin(task)

    def _go_on(self) -> None:
        layer = self._results.selected()
        if layer is None:
            return
        try:
            self._begin(go_on_task(self._viewer, layer))
        except ValueError as error:
            self._tell(str(error))

    def _begin(self, task: Task) -> None:
        if self._job is not None:
            self._queue.add(task)
            self._sections["queue"].open()
            return
        from napari_neural_style.engine.steering import Steering

        self._end_comparing()
        self._task, self._steering, self._turned = task, Steering(), {}
        steering = self._steering
        self._outputs = Outputs(self._viewer, task.place, self._steps_as())
        self._asked_for_features = True
        self._curve.clear()
        self._start(lambda report: task.work(report, steering), "Style transfer")

    def _steps_as(self) -> str:
        return str(self._results.steps_as.value) if "_results" in self.__dict__ else STEPS_AS[0]

    def _end_comparing(self) -> None:
        if "_results" in self.__dict__:
            self._results.end()

    def _download(self) -> None:
        def work(report: Report) -> Generator[Step]:
            report("Connecting…", 0.0)
            from napari_neural_style.engine.download import download_pretrained

            def received(done: int, total: int) -> None:
                of = f" of {total / 1e6:.0f}" if total else ""
                report(f"Downloading: {done / 1e6:.0f}{of} MB", done / total if total else 0.0)

            download_pretrained(received)
            yield from ()

        self._start(work, "VGG-19 download")

    def _start(self, work: Work, description: str) -> None:
        self._job = Job(work, Callbacks(self._on_status, self._on_step, self._on_end), self.native)
        self._told = ""
        self._clock = Clock()
        self._activity = progress(total=_BAR, desc=description)
        self.bar.value = 0
        self.bar.visible = True
        self._say("Starting…")
        self._update()
        self.native.repaint()
        self._begun = time.monotonic()
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

    def _save_now(self) -> None:
        if self._steering is not None:
            self._steering.save_now()

    def _use_settings(self) -> None:
        from napari_neural_style.viewer.recall import recall

        layer = self._results.selected()
        if layer is None:
            return
        try:
            settings, missing = recall(layer, self._inputs, self._viewer)
        except ValueError as error:
            self._tell(str(error))
            return
        self.settings = settings
        self._tell(f"Not open any more: {', '.join(missing)}." if missing else "")

    def _copy_command(self) -> None:
        from napari_neural_style.viewer.recall import command_for

        layer = self._results.selected()
        clipboard = QApplication.clipboard()
        if layer is None or clipboard is None:
            return
        try:
            command, missing = command_for(layer, self._viewer)
        except ValueError as error:
            self._tell(str(error))
            return
        clipboard.setText(command)
        self._tell(f"Copied. {missing}".strip())

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
            waiting = f" · {self._waiting} waiting" if self._waiting else ""
            loss = f"loss {step.losses.total:.4g}"
            self._say(f"{paused}Step {step.index} of {step.total} · {loss}{remaining}{waiting}")
        losses, seconds = step.losses, time.monotonic() - self._begun
        self._curve.add(step.index, seconds, losses.total, losses.content, losses.style)

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
        if self._waiting and (task := self._queue.take()) is not None:
            self._begin(task)
        self._update()

    def _end_job(self) -> None:
        self._job = self._task = self._steering = None
        self.bar.visible = False
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        outputs, self._outputs = self._outputs, None
        if outputs is not None:
            outputs.finish()

    def _on_parent_changed(self, parent: Any) -> None:
        """Stop when the dock is closed: napari then takes the widget out of it without destroying it."""
        if parent is None:
            self._end_comparing()
            if self._waiting:
                self._queue.clear()
            if self._job is not None:
                self._job.abandon()
                self._end_job()
