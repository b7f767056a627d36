"""The dock widget."""

from __future__ import annotations

import dataclasses
import html
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, Container, LineEdit, PushButton
from magicgui.widgets.bases import ValueWidget
from napari.utils.notifications import show_info

from napari_neural_style import store
from napari_neural_style.cache import pretrained_path
from napari_neural_style.settings import StyleSettings
from napari_neural_style.viewer.choices import why_not
from napari_neural_style.viewer.controls import Controls
from napari_neural_style.viewer.fields import Choices, in_words, labelled, put_in
from napari_neural_style.viewer.garbage import look_again
from napari_neural_style.viewer.inputs import Inputs
from napari_neural_style.viewer.native import (
    make_accessible,
    note,
    put_in_scroll_area,
    style_in_window,
    take_what_is_typed,
    wrapped,
)
from napari_neural_style.viewer.outputs import STEPS_AS
from napari_neural_style.viewer.preferences import use_preferences
from napari_neural_style.viewer.question import Question
from napari_neural_style.viewer.queue import Queue
from napari_neural_style.viewer.results import Results
from napari_neural_style.viewer.runner import STARTING, Runner
from napari_neural_style.viewer.sections import Section
from napari_neural_style.viewer.tasks import Task, make_task, why_no_task
from napari_neural_style.viewer.window import let_go, make_canvas_current
from napari_neural_style.viewer.worker import Job

if TYPE_CHECKING:
    import napari


class StyleTransferWidget(Container):
    """Choose two layers, press Run, and watch the content take the style.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose layers are used and to which the results are added.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._told = self._reason = self._complaint = ""
        self._build()
        widgets = [self._body, self.message, self._buttons, self._more_buttons, self.bar]
        super().__init__(widgets=widgets, labels=False)
        self._scroll_area = put_in_scroll_area(self, self._body)
        self.reset_choices()
        self._inputs.take_selected()
        self.settings = use_preferences().first_settings(store.last_settings())
        self._told = store.why_left_out()
        self._connect()
        make_accessible(self)
        style_in_window(self.native)
        self._update()

    def _build(self) -> None:
        self._runner = Runner(self._viewer)
        self.bar = self._runner.bar
        self._inputs = Inputs(self._viewer)
        self.content, self.style, self.swap = self._inputs.content, self._inputs.style, self._inputs.swap
        self._controls = Controls(self._runner.turn)
        self._presets, self._fields = self._controls.presets, self._controls.fields
        self.preset, self.style_strength = self._presets.preset, self._presets.strength
        self.size, self.steps, self.save_every = (self._fields[n] for n in ("size", "steps", "save_every"))
        self.features, self.device = self._fields["features"], self._fields["device"]
        self._main = labelled(*self._inputs.main, self.preset, self.style_strength, *self._fields.basic)
        self._inputs.plane_choice.made.connect(self._put_below)
        self._fields.made.connect(self._put_below)
        self._question = Question()
        self.download, self.use_self_taught = self._question.download, self._question.use_self_taught
        self._sections = {
            "more": Section("Regions and more styles", self._make_more, "Where to paint, and with which styles."),
            "results": Section("Results", lambda: self._results.body, "For the result selected in the layer list."),
            "curve": Section("Loss curve", lambda: wrapped(self._runner.curve), "The losses of the run."),
            "queue": Section("Waiting runs", lambda: wrapped(self._queue), "Runs that start one after another."),
            "presets": Section("Own presets", self._controls.own_presets, "Keep the settings under a name."),
            "advanced": Section("Advanced", self._make_advanced, "All other settings."),
        }
        for section in self._sections.values():
            section.made.connect(self._on_section)
            section.toggle.changed.connect(partial(self._bring_into_view, section))
        self._body: Container[Any] = Container(
            widgets=[self._main, self._question, *self._sections.values()], labels=False
        )
        self.message = note("")
        self.run = PushButton(text="&Run", tooltip="Start repainting; during a run, let the next one wait.")
        self.pause = PushButton(text="Pa&use", enabled=False, tooltip="Pause the run after this step, or resume it.")
        self.stop = PushButton(text="S&top", enabled=False, tooltip="End the run, keep its picture, begin the next.")
        self.save_now = PushButton(
            text="Save &now", enabled=False, tooltip="Keep the next step's picture; a stack keeps its planes."
        )
        self.restore = PushButton(text="Restore &defaults", tooltip="Reset all settings to their defaults.")
        self._buttons = Container(widgets=[self.run, self.pause, self.stop], layout="horizontal", labels=False)
        self._more_buttons = Container(widgets=[self.save_now, self.restore], layout="horizontal", labels=False)
        self._buttons.margins = self._more_buttons.margins = (0, 0, 0, 0)

    @cached_property
    def _results(self) -> Results:
        results = Results(self._viewer, self._inputs)
        results.recalled.connect(self._on_recalled)
        results.wanted.connect(self._begin)
        results.told.connect(self._tell)
        return results

    def _on_recalled(self, settings: StyleSettings) -> None:
        self._controls.write(settings)
        if self._inputs.more.used:
            self._sections["more"].open()

    @property
    def planes(self) -> Choices:
        """The field for the axes to go along."""
        return self._inputs.plane_choice.planes

    @property
    def chained(self) -> CheckBox:
        """The field for whether planes start from the one before."""
        return self._inputs.plane_choice.chained

    @property
    def scheduler(self) -> LineEdit:
        """The field for the address of a Dask cluster."""
        return self._inputs.plane_choice.scheduler

    def _put_below(self, field: ValueWidget[Any], late: list[ValueWidget[Any]]) -> None:
        """Put fields that were made late below another."""
        put_in(self._main, self._main.index(field) + 1, late)
        make_accessible(self)

    @property
    def _job(self) -> Job | None:
        return self._runner.job

    @property
    def _queue(self) -> Queue:
        return self._runner.queue

    def _make_more(self) -> Container[Any]:
        more = self._inputs.more
        more.each.changed.connect(self._run_each)
        more.body.changed.connect(self._on_change)
        return more.body

    def _bring_into_view(self, section: Section) -> None:
        self._scroll_area.bring_into_view(section.native)

    def _make_advanced(self) -> Container[Any]:
        fields = self._fields.advanced
        put_in(fields, len(fields), [self._inputs.plane_choice.scheduler])
        return fields

    def _on_section(self) -> None:
        """Look after what a section made when it was first opened."""
        make_accessible(self)
        self._update()

    def _connect(self) -> None:
        self._controls.filled.connect(self._on_filled)
        self._controls.changed.connect(self._on_change)
        self._controls.told.connect(self._tell)
        self.restore.changed.connect(self._controls.restore_defaults)
        self.use_self_taught.changed.connect(self._choose_self_taught)
        self.download.changed.connect(self._download)
        for button, press in (
            (self.run, self._run),
            (self.pause, self._runner.toggle_pause),
            (self.stop, self._runner.stop),
            (self.save_now, self._runner.save_now),
        ):
            button.changed.connect(press)
        for field in (self.content, self.style, self._inputs.plane_choice):
            field.changed.connect(self._on_change)
        self._runner.changed.connect(self._update)
        self._runner.said.connect(self._on_said)
        self._runner.ended.connect(self._on_ended)
        self._viewer.dims.events.ndisplay.connect(self._update)
        self._viewer.dims.events.order.connect(self._update)
        self._viewer.dims.events.axis_labels.connect(self._update)
        self._viewer.dims.events.current_step.connect(self._forget_complaint)
        self._viewer.layers.selection.events.active.connect(self._update)
        self._viewer.layers.events.removing.connect(self._on_removing)
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
        return self._controls.read()

    @settings.setter
    def settings(self, settings: StyleSettings) -> None:
        self._controls.write(settings)

    def _choose_self_taught(self) -> None:
        self.features.value = "self-taught"

    def reset_choices(self, *args: Any) -> None:
        """Follow the viewer's layer list."""
        if "more" in self._inputs.__dict__:
            self._inputs.more.follow()
        super().reset_choices(*args)
        if self._job is None:
            self._inputs.tell_apart()
        self._inputs.note()
        self._forget_complaint()
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
        overlooked = use_preferences().overlooked
        self._inputs.plane_choice.follow()
        running = self._job is not None
        held = next((button for button in (self.stop, self.pause, self.save_now) if button.native.hasFocus()), None)
        self.stop.enabled = running
        self.pause.enabled = self._job is not None and not self._job.stopping
        self.save_now.enabled = self._runner.steerable
        self.pause.text = "Res&ume" if self._job is not None and self._job.paused else "Pa&use"
        self.run.text = "&Run next" if running else "&Run"
        self._question.follow(self.features.value, running)
        mode = self._fields["mode"].value
        self.content.enabled, self.style.enabled = mode != "texture", mode != "content"
        self._inputs.plane_choice.suit(mode)
        self._fields["style_scale"].enabled = mode != "content"
        self.style_strength.enabled = self._fields["color"].enabled = mode == "transfer"
        reason = self._reason = self.why_not_run()
        self.run.enabled = not reason
        if held is not None and not held.enabled:  # Qt would give the keyboard to the next, which restores defaults
            (self.run if self.run.enabled else self.preset).native.setFocus()
        if "_results" in self.__dict__:
            self._results.update()
        if "more" in self._inputs.__dict__:
            self._inputs.more.suit(mode)
            several = mode != "content" and len(self._inputs.styles()) > 1
            self._inputs.more.each.enabled = several and not reason
        if running:
            self._say_running(self._runner.words)
        else:
            self._say(" ".join(dict.fromkeys(filter(None, (self._told, overlooked, reason)))))

    def _on_filled(self) -> None:
        """Say what becomes of settings that were all given anew while a run could be steered."""
        if self._runner.steerable:
            show_info("These settings are for the next run; the present one keeps its own until a control is moved.")
        self._update()

    def _on_change(self) -> None:
        """Forget how the last run ended: what counts now is the present choice."""
        self._told = ""
        self._update()

    def _say(self, text: str) -> None:
        text = in_words(text)
        self.message.value = text
        self.message.tooltip = f"<span>{html.escape(text)}</span>" if text else ""  # a long name is cut off at the edge
        self.message.visible = bool(text)

    def _tell(self, text: str) -> None:
        """Say something that stays until something else is chosen; during a run, in a notification."""
        if text and self._job is not None:
            show_info(text)
            return
        self._told = text
        self._update()

    def _complain(self, reason: str) -> None:
        self._complaint = reason
        self._tell(reason)

    def _forget_complaint(self) -> None:
        """Say no longer why a run could not start: what changed in the viewer may have been the reason."""
        if self._complaint and self._told == self._complaint:
            self._told = ""
            self._update()
        self._complaint = ""

    def _run(self) -> None:
        self._enqueue(None)

    def _run_each(self) -> None:
        for style in self._inputs.styles():
            if not why_no_task(self._viewer, self._inputs, self.settings, style):
                self._enqueue(style)

    def _enqueue(self, only: Any) -> None:
        """Note what is chosen, and start it now or when its turn comes."""
        take_what_is_typed(self.native)
        reason = self.why_not_run()
        if reason:
            self._complain(reason)
            return
        try:
            task = make_task(self._viewer, self._inputs, self.settings, only)
        except ValueError as error:
            self._complain(str(error))
            return
        store.remember(self.settings)
        self._begin(task)

    def _begin(self, task: Task) -> None:
        self._question.answered = True
        self._told = ""
        steps_as = str(self._results.steps_as.value) if "_results" in self.__dict__ else STEPS_AS[0]
        if not self._runner.begin(dataclasses.replace(task, steps_as=steps_as)):
            self._sections["queue"].open()

    def _download(self) -> None:
        self._told = ""
        self._runner.download()

    def _say_running(self, words: str) -> None:
        """Say what a run or a download is at, and why no run can wait for a run."""
        reason = self._reason if self._runner.paints else ""
        self._say(f"{words}\nNo further run can be queued: {reason}" if reason else words)

    def _on_said(self, words: str) -> None:
        self._say_running(words)
        if words.startswith(STARTING):
            self.native.repaint()  # importing torch, which comes next, holds even other threads

    def _on_ended(self, words: str) -> None:
        self.features.reset_choices()
        self._told = words

    def _on_removing(self) -> None:
        make_canvas_current(self.native)
        look_again()  # napari collects what a layer leaves behind right when it goes

    def _on_parent_changed(self, parent: Any) -> None:
        """Stop when the dock is closed: napari then takes the widget out of it without destroying it."""
        if parent is None:
            if "_results" in self.__dict__:
                self._results.close()
            self._runner.abandon()
            let_go(self.native)
