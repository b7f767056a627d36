"""Makes the pictures of docs/guide.md from a real window: python scripts/pictures.py [NAME...].

It needs a screen (scripts/with-screen gives one) and takes some minutes; names are those of the functions in SCENES.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from skimage.draw import ellipse, polygon2mask
from skimage.filters import gaussian

from session import grabbed, window, write

CAT = [(124, 0), (118, 31), (79, 34), (22, 51), (0, 79), (0, 390), (45, 366), (124, 349), (169, 321), (214, 299)]
CAT += [(242, 291), (262, 271), (271, 225), (259, 147), (265, 68), (299, 62), (299, 0)]
"""The cat's outline in the sample photograph, (y, x)."""
EYES = ((116, 171, 33, 38), (140, 320, 31, 26))
"""Its eyes: the centre and half of the height and width."""


def regions() -> None:
    """Let the eyes stay, the cat take the light whirls and what is around it the dark sky."""
    with window("pair") as w:
        photograph, painting = w.viewer.layers["photograph"], w.viewer.layers["painting"]
        labels = np.where(polygon2mask((300, 451), CAT), 1, 2)
        for eye in EYES:
            labels[ellipse(*eye)] = 0
        soft = gaussian(painting.data.astype(float), 12, channel_axis=-1)
        light = np.where(soft[..., 0] > soft[..., 2], 1, 2)
        place = {"scale": painting.scale, "translate": painting.translate}
        on_style = w.viewer.add_labels(light, name="on the painting", opacity=0.5, **place)
        on_content = w.viewer.add_labels(labels, name="on the photograph", opacity=0.5)
        w.viewer.layers.move(w.viewer.layers.index(on_style), 1)
        w.inputs.more.content_regions.value = on_content
        w.inputs.more.rows[0].regions.value = on_style
        w.viewer.layers.selection.active = photograph
        w.open("more")
        w.save("regions.jpg")
        w.run()
        on_content.visible = on_style.visible = False
        w.save("regions-result.jpg")


def area() -> None:
    """Paint one gland, outlined in a Shapes layer."""
    with window("histology") as w:
        tissue = w.viewer.layers["histology"]
        outline = [(315, 268), (330, 256), (380, 248), (450, 262), (500, 300), (508, 340), (480, 366), (420, 382)]
        outline += [(370, 374), (335, 345), (312, 310)]
        gland = w.viewer.add_shapes(
            [outline], shape_type="polygon", name="gland", face_color="transparent", edge_color="#ffd54f", edge_width=3
        )
        w.inputs.more.area.value = gland
        w.open("more")
        w.viewer.layers.selection.active = tissue
        w.run()
        w.viewer.layers["watercolour"].visible = False
        w.viewer.layers.move(w.viewer.layers.index(gland), len(w.viewer.layers))
        w.save("area.jpg")


def styles() -> None:
    """Show two styles at once; and one style with a fine and a broad brush."""
    with window("histology", "pair") as w:
        w.dock.content.value, w.dock.style.value = w.viewer.layers["photograph"], w.viewer.layers["painting"]
        w.viewer.layers["histology"].visible = w.viewer.layers["watercolour"].visible = False
        w.press(w.inputs.more.add)
        w.inputs.more.rows[1].layer.value = w.viewer.layers["watercolour"]
        w.inputs.more.rows[1].weight.value = 2
        w.look_at(w.dock.style.value)
        w.open("more")
        w.run()
        w.save("styles.jpg")
    with window("pair") as w:
        w.in_grid(2, {f"style scale {scale:g}": w.run(style_scale=scale) for scale in (0.5, 3.0)})
        w.save("style-scale.jpg")


def alone() -> None:
    """Show what a layer of features keeps of the content; a texture of the style."""
    with window("histology", mode="content", content_layers={"conv3_1": 1.0}, steps=100) as w:
        tissue = w.viewer.layers["histology"]
        w.in_grid(2, {"the content": tissue, "what conv3_1 keeps of it": w.run()})
        w.save("content-alone.jpg")
    with window("histology", mode="texture", size=320, scales=3) as w:
        w.viewer.layers["histology"].visible = False
        w.run()
        w.viewer.reset_view()
        w.save("style-alone.jpg")


def color() -> None:
    """Show the three colour modes."""
    with window("pair") as w:
        made = {f"color: {mode}": w.run(color=mode) for mode in ("style", "content", "free")}
        w.in_grid(2, {"the content": w.viewer.layers["photograph"], **made})
        w.save("color.jpg")


def go_on() -> None:
    """Show a stopped run, and the end of it."""
    with window("cells", steps=150, scales=3) as w:
        w.viewer.dims.set_current_step(0, 4)
        w.press(w.dock.run)
        w.until_step(60)
        w.press(w.dock.stop)
        w.until(lambda: w.dock._job is None)
        w.viewer.layers.selection.active = w.viewer.layers[-1]
        w.open("results")
        w.save("stopped.jpg")
        w.press(w.results.go_on)
        w.until(lambda: w.dock._job is None)
        w.save("gone-on.jpg")


def results() -> None:
    """Show what can be done with a result; saved steps, comparing, and the loss."""
    with window("pair", save_every=10, steps=100, scales=3) as w:
        w.results.steps_as.value = "one layer"
        result = w.run()
        w.viewer.layers.selection.active = result
        w.open("results")
        w.press(w.results.copy)
        w.save("provenance.png", w.dock)
        w.press(w.results.compare)
        w.save("compare.jpg")
        w.press(w.results.compare)
        w.open("curve")
        w.save("curve.png", w.dock._sections["curve"])
        w.dock._sections["curve"].open(False)
        steps = next(layer for layer in w.viewer.layers if "saved steps" in layer.name)
        w.show_only(steps, w.viewer.layers["painting"])
        w.viewer.layers.selection.active = steps
        w.viewer.dims.set_current_step(0, 1)
        w.save("saved-steps.jpg")


def presets() -> None:
    """Show a preset of one's own, and the page in Preferences."""
    with window("pair") as w:
        w.choose(size=384, steps=150, style_scale=0.75)
        own = w.open("presets")
        w.dock._presets.name.value = "fine brush"
        w.press(w.dock._presets.save)
        w.save("presets.png", w.dock)
        assert own.inner.visible
        dialog = w.viewer.window._open_preferences_dialog()
        rows = [dialog._list.item(row).text() for row in range(dialog._list.count())]
        dialog._list.setCurrentRow(next(row for row, text in enumerate(rows) if "Neural Style" in text))
        w.wait(1)
        write(grabbed(dialog), "preferences.png")
        dialog.close()


def menus() -> None:
    """Show where the samples and the dock are in napari's menus."""
    with window("cells") as w:
        for bar, words, name in (
            ("File", ("Open Sample", "Neural Style"), "samples.jpg"),
            ("Layers", ("Filter", "Style Transfer"), "menu.jpg"),
        ):
            actions = w.native.menuBar().actions()
            menu = next(action for action in actions if action.text().replace("&", "") == bar).menu()
            opened = [menu]
            menu.popup(w.native.mapToGlobal(w.native.menuBar().actionGeometry(menu.menuAction()).bottomLeft()))
            for word in words:
                w.wait(0.3)
                action = next(a for a in opened[-1].actions() if word in a.text().replace("&", ""))
                opened[-1].setActiveAction(action)
                if action.menu() is not None:
                    QTest.keyClick(opened[-1], Qt.Key.Key_Right)
                    opened.append(action.menu())
            w.save(name)
            for each in reversed(opened):
                each.close()


def light() -> None:
    """Show the light theme."""
    with window("cells") as w:
        w.viewer.theme = "light"
        w.viewer.dims.set_current_step(0, 4)
        w.run()
        w.native.activateWindow()
        w.dock.preset.native.setFocus()
        w.save("light.jpg")


def many_layers() -> None:
    """Show a hundred layers, the list of them and a result above them."""
    with window("pair") as w:
        noise = np.random.default_rng(0)
        for number in range(100):
            layer = w.viewer.add_image(noise.random((64, 64)), name=f"field {number:02d}", visible=False)
            w.viewer.layers.move(w.viewer.layers.index(layer), 0)
        w.dock.content.value, w.dock.style.value = w.viewer.layers["photograph"], w.viewer.layers["painting"]
        w.run()
        w.press(w.dock.content)
        w.save("many-layers.jpg")
        w.dock.content.native.hidePopup()


def stack() -> None:
    """Show a movie that is being painted, and its slider in use meanwhile."""
    with window("cells", steps=60) as w:
        choice = w.inputs.plane_choice
        choice.planes.value = choice.planes.choices[1]
        w.press(w.dock.run)
        w.until(lambda: len(w.viewer.layers) > 2 and w.dock._runner.bar.value > 550)
        w.viewer.layers["stained glass"].visible = False
        w.viewer.dims.set_current_step(0, 2)
        w.save("stack.jpg")


def queue() -> None:
    """Show a run, and others that wait."""
    with window("histology", "pair", steps=300) as w:
        w.dock.content.value, w.dock.style.value = w.viewer.layers["photograph"], w.viewer.layers["painting"]
        w.viewer.layers["histology"].visible = w.viewer.layers["watercolour"].visible = False
        w.look_at(w.dock.style.value)
        w.press(w.dock.run)
        w.open("more")
        w.press(w.inputs.more.add)
        w.inputs.more.rows[1].layer.value = w.viewer.layers["watercolour"]
        w.press(w.inputs.more.each)
        w.dock._sections["more"].open(False)
        w.press(w.dock.run)
        w.until_step(40)
        w.dock._queue.list.setCurrentRow(1)
        w.open("queue")
        w.save("queue.jpg")


def steering() -> None:
    """Show a run that is turned on its way, and what is noted of it."""
    with window("pair", steps=200, scales=3) as w:
        w.press(w.dock.run)
        w.until_step(60)
        w.dock._fields["color"].value = "content"
        w.dock.style_strength.value = 85
        w.until_step(140)
        w.press(w.dock.save_now)
        w.until_step(170)
        w.save("steering.jpg")
        w.until(lambda: w.dock._job is None)
        w.viewer.layers.selection.active = w.viewer.layers[-1]
        w.press(w.results.use)
        w.open("advanced")
        w.dock._scroll_area.verticalScrollBar().setValue(10000)
        w.save("steering-noted.png", w.dock)


SCENES: dict[str, Callable[[], None]] = {
    scene.__name__: scene
    for scene in (
        *(regions, area, styles, alone, color, go_on, results),
        *(presets, menus, light, many_layers, stack, queue, steering),
    )
}

if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(SCENES)
    if unknown:
        sys.exit(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(SCENES)}.")
    for chosen in sys.argv[1:] or SCENES:
        SCENES[chosen]()
