"""Controls whose every state is drawn beforehand, and what a cell leaves for the prose of any page."""

import re
from base64 import b64decode
from io import BytesIO

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from PIL import Image

from bnutils import models, presets, runs, widgets


def draw(option):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, len(str(option))])
    return figure


def alt(option):
    return f'the "{option}" one'


def test_walk_has_one_picture_for_each_option():
    options = ["mean_step", 20, 0.5]
    slider, stack = widgets.walk(draw, options, label="what", alt=alt).children
    assert (slider.description, slider.index, stack.selected_index) == ("what", 0, 0)
    assert slider.options == (("mean step", 0), ("20", 1), ("0.5", 2))
    pictures = [page.value for page in stack.children]
    assert pictures == [widgets.picture(draw(option), alt=alt(option)) for option in options]
    assert len({picture.split(" alt=")[0] for picture in pictures}) == 3


def test_walk_without_options_says_so():
    """What a page has where its runs are too costly: no steps and no doses to walk through."""
    shown = widgets.walk(draw, [], label="training step", alt=alt)
    texts = [getattr(each, "value", getattr(each, "data", "")) for each in getattr(shown, "children", [shown])]
    assert "no runs on record" in "".join(texts).lower()


def test_choose_has_a_picture_for_each_combination(monkeypatch):
    drawn, linked = [], []
    monkeypatch.setattr(widgets.ipywidgets, "jslink", lambda one, other: linked.append((one[0], other[0])))

    def draw_pair(a, b):
        drawn.append((a, b))
        return draw(a * b)

    shown = widgets.choose(draw_pair, {"first": [1, 20], "second": ["x", "yy", "z"]}, alt=lambda a, b: f"{a} and {b}")
    first, second, stack = shown.children
    assert (first.description, second.description) == ("first", "second")
    assert drawn == [(a, b) for a in (1, 20) for b in ("x", "yy", "z")]
    for a, inner in zip((1, 20), stack.children, strict=True):
        assert [f'alt="{a} and {b}"' in page.value for b, page in zip(("x", "yy", "z"), inner.children, strict=True)]
    assert linked == [*((second, inner) for inner in stack.children), (first, stack)]


def test_choose_without_options_says_so():
    assert "No runs" in widgets.choose(draw, {"first": [1], "second": []}, alt=alt).value


def test_picture_carries_its_own_data_and_closes_its_figure():
    figure = draw("a")
    html = widgets.picture(figure, alt='a < "b"')
    data = re.fullmatch(r'<img src="data:image/webp;base64,(.+)" alt="a &lt; &quot;b&quot;" width=[^>]+>', html)[1]
    assert Image.open(BytesIO(b64decode(data))).size == (192, 96)
    assert not plt.get_fignums()


def test_source_is_that_of_what_runs():
    shown = widgets.source("runs.at_dose", "models.VGG").data
    assert shown.startswith(
        '```python\ndef at_dose(frame: pd.DataFrame, dose: float) -> pd.DataFrame:\n    """The rows'
    )
    assert shown.endswith("\n```")
    space = {}
    exec(
        shown.removeprefix("```python").removesuffix("```"),
        vars(models) | vars(runs) | {"__name__": runs.__name__},
        space,
    )
    assert space["at_dose"].__code__.co_code == runs.at_dose.__code__.co_code
    assert space["VGG"].__dataclass_fields__.keys() == models.VGG.__dataclass_fields__.keys()


def test_note_is_escaped():
    assert widgets.note("a < b & c").data == '<p class="measured">a &lt; b &amp; c</p>'


def test_the_numbers_of_a_figure_come_with_it():
    frame = pd.DataFrame({"quantity": ["loss", "beta"], "step": [1, 2], "value": [1 / 3, 2.0], "eta": [np.nan, np.nan]})
    other = frame.copy()
    frame.attrs, other.attrs = (
        {"source": "1 run & more.", "scale": "digits"},
        {"source": "The paper's.", "scale": "paper"},
    )
    shown = widgets.data("fig-loss", frame, other, quantities=["loss"]).data
    assert shown.startswith('<p class="measured">1 run &amp; more. The paper&#x27;s. The numbers drawn: <a ')
    (csv,) = re.findall(r'download="fig-loss.csv" href="data:text/csv;base64,([^"]+)">fig-loss.csv<', shown)
    assert b64decode(csv).decode() == "quantity,step,value,of\nloss,1,0.333333,digits\nloss,1,0.333333,paper\n"
    named = widgets.data("fig-loss", frame, other, quantities=["loss"], of=["deep", "shallow"]).data
    assert "loss,1,0.333333,deep\nloss,1,0.333333,shallow\n" in offered(named)
    tables = {"one": frame[["step"]], "two": other[["step"]]}
    assert offered(widgets.table("fig-loss", tables, frame).data) == "step,of\n1,one\n2,one\n1,two\n2,two\n"


def offered(html):
    return b64decode(re.search(r'base64,([^"]+)', html)[1]).decode()


# ---- in a kernel ---------------------------------------------------------------------------------------------------

CELLS = [
    """import matplotlib.pyplot as plt
import numpy as np
from bnutils import widgets
widgets.glue({"steps": np.float64(2200), "ratio": 2, "word": "partly"})""",
    """widgets.walk(lambda option: plt.figure(figsize=(1, 1)), ["a", "b"], label="what", alt=str)""",
    """plt.get_fignums()""",
    """widgets.glue({"bad": None})""",
]


@pytest.fixture(scope="module")
def executed():
    """The cells above, run as a page's are."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    return NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()


def test_glue_leaves_values_under_their_keys(executed):
    """As myst-nb reads them: shown nowhere, the name in the metadata; numbers are floats, so that a format applies."""
    outputs = executed.cells[0].outputs
    kept = {out.metadata["scrapbook"]["name"]: out.data for out in outputs}
    assert {name: data["application/papermill.record/text/plain"] for name, data in kept.items()} == {
        "steps": "2200.0",
        "ratio": "2.0",
        "word": "'partly'",
    }
    assert all(key.startswith("application/papermill.record/") for data in kept.values() for key in data)
    assert executed.cells[3].outputs[0].ename == "TypeError"


def test_the_slider_moves_the_stack_without_a_kernel(executed):
    """The link is in the state that the page keeps, so the browser follows it."""
    state = executed.metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    (link,) = [each.state for each in state.values() if each.model_name == "LinkModel"]
    ends = [(state[model.removeprefix("IPY_MODEL_")], name) for model, name in (link.source, link.target)]
    assert [(end.model_name, name) for end, name in ends] == [
        ("SelectionSliderModel", "index"),
        ("StackModel", "selected_index"),
    ]
    (shown,) = [out for out in executed.cells[1].outputs if out.output_type == "execute_result"]
    box = state[shown.data["application/vnd.jupyter.widget-view+json"]["model_id"]].state
    inside = [state[child.removeprefix("IPY_MODEL_")] for child in box.children]
    assert inside == [end for end, _ in ends] and len(inside[1].state.children) == 2


def test_a_cell_with_a_walk_draws_nothing_beside_it(executed):
    assert not [out for out in executed.cells[1].outputs if "image/png" in out.get("data", {})]
    assert executed.cells[2].outputs[0].data["text/plain"] == "[]"


def test_a_menu_of_names_moves_the_stack_without_a_kernel():
    box = widgets.menu(lambda option: plt.figure(figsize=(1, 1)), {"A b": "a", "C": "c"}, label="what", alt=str)
    menu, stack = box.children
    assert (menu.options, menu.index, stack.selected_index) == ((("A b", 0), ("C", 1)), 0, 0)
    assert ['alt="A b"' in each.value for each in stack.children] == [True, False] and not plt.get_fignums()
    assert widgets.menu(lambda option: None, {}, label="what", alt=str).value == "No runs on record."


# ---- the laboratory ------------------------------------------------------------------------------------------------

SMOKE = presets.get("smoke", device="cpu")
ALT = "A run: normalizer {}, dose of noise {}, learning rate 0.1, initial weights Glorot's, depth A"


def laboratory(train):
    frames = {choice: pd.DataFrame({"value": [index]}) for index, choice in enumerate(SMOKE.laboratory.grid)}
    names = {"none": "Standard", "batch": "BatchNorm", "glorot": "Glorot's"}
    return widgets.laboratory(
        lambda frame: draw("x" * len(frame)),
        frames,
        SMOKE.laboratory.choices,
        names=names,
        train=train,
        alt=lambda words: f"A run: {words}",
    ).children


def test_the_laboratory_shows_the_recorded_run_of_each_combination():
    normalizer, dose, *_, stack, button, live = laboratory(None)
    assert normalizer.options == (("Standard", 0), ("BatchNorm", 1)) and dose.options == (("0", 0), ("1", 1))
    for norm, noises in zip(("Standard", "BatchNorm"), stack.children, strict=True):
        for noise, page in zip("01", noises.children, strict=True):
            (picture,) = [each.children[0].children[0].children[0] for each in [page]]
            assert f'alt="{ALT.format(norm, noise)}"'.replace("'", "&#x27;") in picture.value
    assert live.value == "" and button._dom_classes == ("needs-kernel",)  # book.css hides it where there is no kernel


def test_the_laboratory_trains_what_is_chosen_and_draws_it_on_the_way():
    """Really: each press takes the next seed, and each picture replaces the one before."""
    asked, seen = [], []

    def train(*choice, seed):
        asked.append((choice, seed))
        for frame in runs.watch(SMOKE, *choice, seed=seed, every=0):
            yield frame
            seen.append((len(frame), live.value, button.disabled))

    normalizer, dose, *_, button, live = laboratory(train)
    normalizer.index, dose.index = 1, 1
    for _ in range(2):
        button.click()
    assert asked == [(("batch", 1, 0.1, "glorot", "A"), seed) for seed in (1, 2)]
    lengths, pictures, disabled = zip(*seen[: len(seen) // 2], strict=True)
    assert len(lengths) > 2 and list(lengths) == sorted(lengths) and all(disabled) and not button.disabled
    assert all("<img" in each and "in training" in each for each in pictures)


def test_the_laboratory_says_what_went_wrong():
    def train(*choice, seed):
        raise ValueError("no folder < here")
        yield

    *_, button, live = laboratory(train)
    button.click()
    assert live.value == "<p>no folder &lt; here</p>" and not button.disabled
