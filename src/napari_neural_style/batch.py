"""Many contents in one or more styles: which pictures there are to make, and making those that are not finished."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_neural_style.contents import Content, look_at
from napari_neural_style.engine.images import to_uint8
from napari_neural_style.engine.provenance import made_by, versions
from napari_neural_style.engine.resolving import resolved
from napari_neural_style.engine.sizes import style_size, working_size
from napari_neural_style.engine.transfer import stylize, trained_features
from napari_neural_style.engine.vgg import Features
from napari_neural_style.files import read_image, stem_of, write_image
from napari_neural_style.ledger import Ledger
from napari_neural_style.planes import Index
from napari_neural_style.settings import SETTINGS, StyleSettings
from napari_neural_style.shared import Shared, share
from napari_neural_style.stack import before, chains, result_size, stylize_plane
from napari_neural_style.stack_store import StackStore
from napari_neural_style.workers import Watch, Workers, last_of, outcome_of

Pixels = npt.NDArray[Any]
Made = tuple[npt.NDArray[np.uint8], dict[str, Any]]


def share_in(
    content: Content, style: Pixels, settings: StyleSettings, features: Features | None, watch: Watch | None = None
) -> Shared:
    """Return what the planes of a stack have in common: a task."""
    return share(content.planes(), style, settings, features=features)


def make(
    content: Content,
    index: Index,
    style: Pixels,
    settings: StyleSettings,
    shared: Shared | None,
    previous: tuple[Index, Pixels] | None,
    sources: dict[str, str],
    watch: Watch | None = None,
) -> Made:
    """Return a picture and what made it: a task, for an image file or for one plane of a stack.

    Raises
    ------
    ValueError
        If the content cannot be used; the message says why.
    """
    if content.stacked:
        assert shared is not None
        steps = stylize_plane(content.planes(), index, style, settings, shared, previous)
    else:
        features = None if shared is None else shared.features
        steps = stylize(content.planes().read(()), style, settings, features=features)
    last = last_of(steps, watch)
    assert last.image is not None
    return to_uint8(last.image), made_by(last, sources, settings)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A picture that is finished or failed.

    Attributes
    ----------
    content : str
        The path of the content.
    index : tuple of int
        Which plane; () for an image.
    failure : str
        Why there is no picture: a sentence, or nothing.
    written : Path or None
        The output that is whole now.
    """

    content: str
    index: Index
    failure: str = ""
    written: Path | None = None


@dataclasses.dataclass
class _Job:
    """One content in one style."""

    content: Content
    style: int
    output: Path
    todo: list[Index]
    store: StackStore | None = None
    shared: Any = None
    left: int = 0


class Batch:
    """Contents in styles, with the same settings.

    Parameters
    ----------
    styles : sequence of Path
        Every content is made in every style.
    settings : StyleSettings
        For all.
    chain : bool
        Whether the planes of a stack start from the one before.

    Raises
    ------
    ValueError
        If a style or a setting cannot be used.
    """

    def __init__(self, styles: Sequence[Path], settings: StyleSettings, chain: bool = True) -> None:
        if settings.mode == "texture":
            raise ValueError("A texture is made from the style alone: mode texture has no use for a batch.")
        # Which features they are is settled here; device and precision where the work is done.
        known = resolved(dataclasses.replace(settings, device="cpu", precision="auto"))
        interval = SETTINGS["preview_interval"].high
        self.settings = dataclasses.replace(
            known, device=settings.device, precision=settings.precision, preview_interval=interval
        )
        self._features = trained_features(known)
        self._chain = chain
        self._styles = styles
        self._pictures = [read_image(path, partial(style_size, settings=settings)) for path in styles]
        self._jobs: list[_Job] = []
        self._unusable: list[Outcome] = []
        self.total = 0
        self.finished_before = 0

    def plan(self, contents: Sequence[Path], folder: Path) -> None:
        """Find out what there is to make; of contents only headers are read.

        Parameters
        ----------
        contents : sequence of Path
            Image files and stacks.
        folder : Path
            Takes the results.

        Raises
        ------
        ValueError
            If the folder holds a batch that was made otherwise; the message says what differs.
        """
        self._ledger = Ledger(folder)
        styles = zip(self._styles, self._pictures, strict=True)
        # A folder, of an OME-Zarr, has no bytes of its own.
        read = (path.read_bytes() if path.is_file() else picture.tobytes() for path, picture in styles)
        hashes = [hashlib.sha256(each).hexdigest() for each in read]
        made_with = {"settings": self.settings.to_dict(), "style": hashes, "chain": self._chain}
        if self._features is not None:  # of the same name they can be others
            made_with["features"] = self._features.fingerprint
        self._ledger.begin(made_with)
        outputs = {os.path.realpath(path) for path in self._ledger.outputs()}
        for path in contents:
            if os.path.realpath(path) not in outputs:
                self._plan(path, folder)
        self.total = sum(job.left for job in self._jobs) + len(self._unusable)

    def _plan(self, path: Path, folder: Path) -> None:
        try:
            content = look_at(path, partial(working_size, settings=self.settings))
        except ValueError as error:
            self._unusable.append(Outcome(str(path), (), str(error)))
            return
        for number, style in enumerate(self._styles):
            suffix = ".ome.zarr" if content.stacked else ".png"
            name = self._ledger.output_for(path, style, f"{stem_of(path)}-{stem_of(style)}", suffix)
            store = StackStore(folder / name) if content.stacked else None
            exists = (folder / name).is_file() if store is None else store.exists
            finished = self._ledger.finished(name) if exists else set()
            if store is not None and finished and (reason := self._unlike(store, content)):
                self._unusable.append(Outcome(str(path), (), reason))
                continue
            todo = [index for index in content.planes().indices() if index not in finished]
            self.finished_before += len(finished)
            if store is not None and not todo:
                store.publish()  # if it was stopped just before
            self._jobs.append(_Job(content, number, folder / name, todo, store, left=len(todo)))

    def _unlike(self, store: StackStore, content: Content) -> str:
        """Return why a stack that was begun cannot be gone on with: a sentence, or nothing."""
        try:
            store.open()
        except ValueError as error:
            return str(error)
        planes = content.planes()
        now = (*planes.shape, *result_size(planes, self.settings), 3)
        if store.shape == now:
            return ""
        return (
            f"It has changed since its result was begun, which has the shape {store.shape} and would have {now} now. "
            f"Remove {store.there} to have it made anew, or choose another folder with -o."
        )

    def run(self, workers: Workers) -> Iterator[Outcome]:
        """Make what is not finished, a picture at a time; one that fails stops no other.

        Parameters
        ----------
        workers : Workers
            What does the work.

        Yields
        ------
        Outcome
            One for every picture, and one for every content that cannot be used.
        """
        yield from self._unusable
        styles = [workers.keep(picture) for picture in self._pictures]
        shared = None if self._features is None else workers.keep(Shared(self._features, None))
        features = None if self._features is None else workers.keep(self._features)
        waiting = deque((job, chain) for job in self._jobs for chain in chains(job.todo, self._chain_of(job)))
        running: dict[Any, tuple[_Job, deque[Index]]] = {}
        while waiting or running:
            while waiting and len(running) < workers.slots:
                job, chain = waiting.popleft()
                if job.store is not None and job.shared is None:
                    self._open(job)
                    job.shared = workers.submit(share_in, job.content, styles[job.style], self.settings, features)
                running[self._begin(workers, job, chain[0], styles[job.style], shared)] = job, chain
            task = workers.first_done(list(running))
            job, chain = running.pop(task)
            yield self._take(job, chain.popleft(), workers, task)
            if chain:
                waiting.appendleft((job, chain))

    def _chain_of(self, job: _Job) -> int | None:
        return job.content.chain if self._chain else None

    def _open(self, job: _Job) -> None:
        assert job.store is not None
        if job.store.is_open:
            return
        content, planes = job.content, job.content.planes()
        size = result_size(planes, self.settings)
        lengths = {content.axes[axis]: content.shape[axis] for axis in content.stacked}
        made = {"settings": self.settings.to_dict(), "sources": self._sources(job), "versions": versions()}
        self._ledger.begin_output(job.output.name)
        job.store.create(lengths, size, content.spacing_at(size), made)

    def _sources(self, job: _Job) -> dict[str, str]:
        return {"content": Path(job.content.path).name, "style": self._styles[job.style].name}

    def _begin(self, workers: Workers, job: _Job, index: Index, style: Any, shared: Any) -> Any:
        previous = None
        if job.store is not None:
            shared = job.shared
            finished = self._ledger.finished(job.output.name)
            at = before(index, finished, self._chain_of(job))
            # As it is written: going on after a stop, there is nothing else.
            previous = None if at is None else (at, job.store[at])
        return workers.submit(make, job.content, index, style, self.settings, shared, previous, self._sources(job))

    def _take(self, job: _Job, index: Index, workers: Workers, task: Any) -> Outcome:
        """Write what a task made, or say why there is nothing to write."""
        job.left -= 1
        result, failure = outcome_of(workers, task)
        if not failure:
            pixels, made = result
            if job.store is None:
                write_image(job.output, pixels, made)
            else:
                job.store[index] = pixels
            self._ledger.finish(job.output.name, index)
        if job.store is None:
            return Outcome(job.content.path, index, failure, None if failure else job.output)
        any_finished = bool(self._ledger.finished(job.output.name))
        if job.left == 0:
            job.shared = None
            if any_finished:
                job.store.publish()
            else:
                job.store.discard()
        return Outcome(job.content.path, index, failure, job.output if job.left == 0 and any_finished else None)
