"""Controls that work with and without a kernel: every state is drawn beforehand, the browser switches between them."""

import inspect
from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
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


def data(name: str, *frames: pd.DataFrame, quantities: Sequence[str]) -> HTML:
    """The line below a figure: where its numbers come from, and the numbers themselves, as CSV under the figure's name.

    The rows of these quantities in all frames; the column `of` tells the frames apart.
    """
    parts = [frame[frame.quantity.isin(quantities)].assign(of=frame.attrs.get("scale", "")) for frame in frames]
    rows = pd.concat([part for part in parts if len(part)] or parts[:1]).dropna(axis=1, how="all")
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

    def page(chosen: tuple) -> ipywidgets.Widget:
        """What is shown where the first sliders stand on `chosen`: a picture, or a stack for the next slider."""
        if len(chosen) == len(sliders):
            return ipywidgets.HTML(picture(draw(*chosen), alt=alt(*chosen)))
        values = list(options.values())[len(chosen)]
        stack = ipywidgets.Stack([page((*chosen, value)) for value in values], selected_index=0)
        ipywidgets.jslink((sliders[len(chosen)], "index"), (stack, "selected_index"))
        return stack

    return ipywidgets.VBox([*sliders, page(())])


def menu(
    draw: Callable[[object], Figure], options: dict[str, object], *, label: str, alt: Callable[[str], str]
) -> ipywidgets.Widget:
    """`walk` for options that have names and no order: a menu of the names above the figure of the one chosen."""
    if not len(options):
        return ipywidgets.HTML("No runs on record.")
    pictures = [ipywidgets.HTML(picture(draw(option), alt=alt(name))) for name, option in options.items()]
    choice = ipywidgets.Dropdown(
        options=[(name, place) for place, name in enumerate(options)],
        index=0,
        description=label,
        style={"description_width": "initial"},
        layout={"width": "min(100%, 24rem)"},
    )
    stack = ipywidgets.Stack(pictures, selected_index=0)
    ipywidgets.jslink((choice, "index"), (stack, "selected_index"))
    return ipywidgets.VBox([choice, stack])
