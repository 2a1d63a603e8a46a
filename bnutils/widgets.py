"""Controls that work with and without a kernel: every state is drawn beforehand, the browser switches between them."""

import inspect
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import BytesIO
from itertools import count
from pkgutil import resolve_name

import ipywidgets
import matplotlib.pyplot as plt
import myst_nb
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure


def glue(values: dict[str, object]) -> None:
    """Keep what a cell computed under keys, for any page: numbers and words as {glue:text}`key:.2f`, tables whole."""
    for key, value in values.items():
        shown = isinstance(value, str) or hasattr(value, "_repr_html_")
        myst_nb.glue(key, value if shown else float(value), display=False)


def note(words: str) -> HTML:
    """A line that says where what follows comes from."""
    return HTML(f'<p class="measured">{escape(words)}</p>')


def folded(words: str, table: pd.DataFrame) -> HTML:
    """A table behind a line that opens it."""
    rows = table.to_html(border=0, justify="left", na_rep="", classes="folded")
    return HTML(f"<details><summary>{escape(words)}</summary>{rows}</details>")


def data(name: str, *frames: pd.DataFrame, quantities: Sequence[str], of: Sequence[str] | None = None) -> HTML:
    """The line below a figure: where its numbers come from, and the numbers themselves, as CSV under the figure's name.

    The rows of these quantities in all frames; the column `of` tells the frames apart, by the images and the preset
    unless other words are given.
    """
    of = of or [frame.attrs.get("scale", "") for frame in frames]
    parts = [frame[frame.quantity.isin(quantities)].assign(of=words) for frame, words in zip(frames, of, strict=True)]
    rows = pd.concat([part for part in parts if len(part)] or parts[:1])
    return table(name, rows.dropna(axis=1, how="all") if len(rows) else rows, *frames)


def table(name: str, rows: pd.DataFrame | dict[str, pd.DataFrame], *frames: pd.DataFrame) -> HTML:
    """`data` for numbers that are drawn as they stand in a table, or in several by their words, from these frames."""
    if isinstance(rows, dict):
        rows = pd.concat([each.assign(of=words) for words, each in rows.items()])
    csv = b64encode(rows.to_csv(index=False, float_format="%.6g").encode()).decode()
    words = " ".join(dict.fromkeys(frame.attrs.get("source", "") for frame in frames))
    link = f'<a download="{name}.csv" href="data:text/csv;base64,{csv}">{name}.csv</a>'
    return HTML(f'<p class="measured">{escape(words)} The numbers drawn: {link}</p>')


def source(*names: str) -> Markdown:
    """The source of functions or classes of this package, as "probes.along", read from the objects that run, so that
    page and code cannot drift apart."""
    objects = [resolve_name(f"bnutils.{name}") for name in names]
    return Markdown("```python\n" + "\n\n".join(map(inspect.getsource, objects)) + "```")


def picture(figure: Figure, *, alt: str) -> str:
    """The figure as an HTML image that carries its own data and the alt text; the figure is closed."""
    buffer = BytesIO()
    figure.savefig(buffer, format="webp", dpi=96, pil_kwargs={"quality": 80})
    plt.close(figure)
    data = b64encode(buffer.getvalue()).decode()
    width, height = (round(96 * inches) for inches in figure.get_size_inches())  # a browser keeps the room for it
    size = f'width="{width}" height="{height}" style="max-width: 100%; height: auto"'
    return f'<img src="data:image/webp;base64,{data}" alt="{escape(alt)}" {size}>'


def still(figure: Figure, *, alt: str) -> HTML:
    """`picture` as something that `glue` keeps, for another page than the one that drew it."""
    return HTML(f"<p>{picture(figure, alt=alt)}</p>")


def walk(
    draw: Callable[[object], Figure], options: Sequence[object], *, label: str, alt: Callable[[object], str]
) -> ipywidgets.Widget:
    """A slider over `options` above the figure that `draw` makes of each; arrow keys and mouse move it, kernel or not.

    alt gives each figure's text for readers who do not see it: what is plotted, not what was found. Without options, as
    for a frame without runs, there is a line that says so.
    """
    return choose(draw, {label: options}, alt=alt)


def choose(
    draw: Callable[..., Figure], options: dict[str, Sequence[object]], *, alt: Callable[..., str]
) -> ipywidgets.Widget:
    """`walk` with several sliders, by their labels: `draw` and `alt` take one option of each, in their order.

    Every combination is drawn beforehand: their number is the product of the numbers of options.
    """
    if not all(len(values) for values in options.values()):
        return ipywidgets.HTML("No runs on record.")
    sliders = [
        ipywidgets.SelectionSlider(
            options=[(str(option).replace("_", " "), place) for place, option in enumerate(values)],
            description=label,
            style={"description_width": "initial"},
            layout={"width": "min(100%, 32rem)"},
        )
        for label, values in options.items()
    ]

    return ipywidgets.VBox([*sliders, _pages(draw, list(options.values()), sliders, alt=alt)])


def laboratory(
    draw: Callable[[pd.DataFrame], Figure],
    frames: dict[tuple, pd.DataFrame],
    options: dict[str, Sequence[object]],
    *,
    names: dict[object, str],
    train: Callable[..., Iterable[pd.DataFrame]],
    alt: Callable[[str], str],
) -> ipywidgets.Widget:
    """Buttons for each choice, above the figure of the run that `frames` has of it; with a kernel one more that trains.

    options: those of each choice, by its label; names: the words for some of them. train: takes one option of each and
    a seed, 1 at first and then the next, and yields the frame so far, again and again; each is drawn in the place of
    the one before. The button that trains has the class `needs-kernel`, which the published page hides.
    """
    controls = [
        ipywidgets.ToggleButtons(
            options=[(names.get(option, f"{option}"), place) for place, option in enumerate(each)],
            description=label,
            style={"description_width": "8rem", "button_width": "auto"},
        )
        for label, each in options.items()
    ]
    values = list(options.values())

    def words(*chosen: object) -> str:
        said = zip(options, chosen, strict=True)
        return alt(", ".join(f"{label} {names.get(option, option)}" for label, option in said))

    shown = _pages(lambda *chosen: draw(frames[chosen]), values, controls, alt=words)
    button = ipywidgets.Button(description="Train it here and now", layout={"width": "max-content"})
    button.add_class("needs-kernel")
    live, seeds = ipywidgets.HTML(), count(1)

    def trained(_button: ipywidgets.Button) -> None:
        chosen = [each[control.index] for each, control in zip(values, controls, strict=True)]
        button.disabled = True
        try:
            for frame in train(*chosen, seed=next(seeds)):
                live.value = picture(draw(frame), alt=f"{words(*chosen)}, in training")
        except (ValueError, OSError) as error:  # what images that are not there, or not readable, raise
            live.value = f"<p>{escape(str(error))}</p>"
        finally:
            button.disabled = False

    button.on_click(trained)
    return ipywidgets.VBox([*controls, shown, button, live])


def _pages(
    draw: Callable[..., Figure],
    values: Sequence[Sequence[object]],
    controls: Sequence[ipywidgets.Widget],
    *,
    alt: Callable[..., str],
    chosen: tuple = (),
) -> ipywidgets.Widget:
    """What is shown where the first controls stand on `chosen`: a picture, or a stack that the next one turns over."""
    if len(chosen) == len(controls):
        return ipywidgets.HTML(picture(draw(*chosen), alt=alt(*chosen)))
    pages = [_pages(draw, values, controls, alt=alt, chosen=(*chosen, each)) for each in values[len(chosen)]]
    stack = ipywidgets.Stack(pages, selected_index=0)
    ipywidgets.jslink((controls[len(chosen)], "index"), (stack, "selected_index"))
    return stack


def menu(
    draw: Callable[[object], Figure], options: dict[str, object], *, label: str, alt: Callable[[str], str]
) -> ipywidgets.Widget:
    """`walk` for options that have names and no order: a menu of the names above the figure of the one chosen."""
    if not len(options):
        return ipywidgets.HTML("No runs on record.")
    choice = ipywidgets.Dropdown(
        options=[(name, place) for place, name in enumerate(options)],
        index=0,
        description=label,
        style={"description_width": "initial"},
        layout={"width": "min(100%, 24rem)"},
    )
    shown = _pages(lambda name: draw(options[name]), [list(options)], [choice], alt=alt)
    return ipywidgets.VBox([choice, shown])
