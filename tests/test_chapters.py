"""The shape of the chapters: every notebook of the book, as it stands in the repository."""

import ast
import re
import subprocess
import sys

import nbformat
import papermill
import pytest
from build import ROOT
from IPython.core.inputtransformer2 import TransformerManager

IMPORT = "from bnutils import claims, plots, presets, runs, widgets"
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
# a name with a folder or with a file's ending; one letter on each side of a slash is a fraction or n/a
FILE = re.compile(r"(\.{0,2}|~)/\S*|\S*\w{2,}/\w{2,}\S*|\S+\.(csv|json|md|npz?|parquet|pdf|png|pt|svg|txt|webp|ya?ml)")


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tree(notebook) -> ast.Module:
    """The Python of all code cells."""
    transform = TransformerManager().transform_cell
    return ast.parse("\n".join(transform(cell.source) for cell in code(notebook)))


def nodes(notebook, *kinds) -> list:
    return [node for node in ast.walk(tree(notebook)) if isinstance(node, kinds)]


def tagged(notebook) -> list:
    return [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]


# Each check returns what is wrong with a notebook: an empty list where all is well.


def outputs(notebook):
    return [cell.source for cell in code(notebook) if cell.outputs or cell.execution_count is not None]


def kernel(notebook):
    name = notebook.metadata.get("kernelspec", {}).get("name")
    return [] if name == "python3" else [f"kernelspec {name}"]


def parameters(notebook):
    """One hidden cell of lines `name: type = value  # help`, each of which papermill understands."""
    cells = tagged(notebook)
    if len(cells) != 1:
        return [f"{len(cells)} cells tagged parameters"]
    wrong = [] if "hide-input" in cells[0].metadata.tags else ["parameters cell without hide-input"]
    lines = [line for line in cells[0].source.splitlines() if line and not line.startswith("#")]
    understood = papermill.inspect_notebook(notebook)
    for line in lines:
        name = re.match(r"\w*", line)[0]
        known = understood.get(name, {"inferred_type_name": "None", "help": ""})
        if known["inferred_type_name"] == "None" or not known["help"]:
            wrong.append(f"not `name: type = value  # help`: {line}")
    return wrong


def import_line(notebook):
    found = [ast.unparse(node) for node in nodes(notebook, ast.Import, ast.ImportFrom)]
    return [] if found == [IMPORT] else found or ["no import"]


def cells_per_section(notebook):
    counts, section = {}, "before the first section"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            counts[section] = counts.get(section, 0) + 1
        elif headings := re.findall(r"^## +(.+)", cell.source, re.MULTILINE):
            section = headings[-1]
    return [f"{section}: {count} code cells" for section, count in counts.items() if count > 10]


def lines_per_cell(notebook):
    return [cell.source for cell in code(notebook) if len(cell.source.splitlines()) > 12]


def long_functions(notebook):
    functions = nodes(notebook, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in functions if node.end_lineno - node.lineno >= 5]


def device_names(notebook):
    """In what runs; the comment that says what a parameter accepts may name them."""
    return [line for line in ast.unparse(tree(notebook)).splitlines() if "cuda" in line.lower()]


def file_paths(notebook):
    texts = [node.value for node in nodes(notebook, ast.Constant) if isinstance(node.value, str)]
    return [text for text in texts if FILE.fullmatch(text)]


def plot_titles(notebook):
    calls = [node for node in nodes(notebook, ast.Call) if isinstance(node.func, ast.Attribute)]
    words = [node.func.attr for node in calls] + [word.arg for node in calls for word in node.keywords]
    return [word for word in words if word in ("set_title", "suptitle", "title")]


def figure_metadata(notebook):
    """A cell that draws or has a caption has both a caption and a name to refer to; one that draws has an alt text."""
    wrong = []
    for cell in code(notebook):
        mystnb = cell.metadata.get("mystnb", {})
        figure, alt = mystnb.get("figure", {}), mystnb.get("image", {}).get("alt")
        draws = re.search(r"^\s*(\w+ = )?plots\.\w+\(.*;\s*$", cell.source, re.MULTILINE)
        if (draws and not alt) or ((draws or figure or alt) and not (figure.get("caption") and figure.get("name"))):
            wrong.append(cell.source)
    return wrong


def downloads(notebook):
    """Every figure has below it where its numbers are from, and the numbers."""
    figures = [cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in code(notebook)]
    calls = [node for node in nodes(notebook, ast.Call) if isinstance(node.func, ast.Attribute)]
    calls = [node for node in calls if node.func.attr in ("data", "table") and node.args]
    offered = {node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)}
    return [name for name in figures if name and name not in offered]


def answers(notebook):
    """What a reader is asked to try has an answer, folded away, to compare with."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    tried, answered = text.count("## Try it"), text.count(":::{dropdown} An answer to compare with")
    return [f"{tried} to try, {answered} answered"] * (tried != answered)


CHECKS = [
    answers,
    downloads,
    outputs,
    kernel,
    parameters,
    import_line,
    cells_per_section,
    lines_per_cell,
    long_functions,
    device_names,
    file_paths,
    plot_titles,
    figure_metadata,
]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_chapter_keeps_its_shape(chapter, check):
    assert not check(nbformat.read(chapter, as_version=4))


def test_the_repository_holds_stripped_notebooks():
    command = [sys.executable, "-m", "nbstripout", "--verify", "--keep-id", *CHAPTERS]
    run = subprocess.run(command, capture_output=True, text=True)
    assert CHAPTERS and run.returncode == 0, run.stdout


def good_chapter():
    cell, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    mystnb = {"figure": {"caption": "Loss against step.", "name": "fig-loss"}, "image": {"alt": "loss against step"}}
    cells = [
        text("# Why?"),
        cell("lr: float = 0.1  # step length\npreset: str = 'quick'  # smoke or quick"),
        cell(IMPORT),
        text("## Idea"),
        cell("frame = runs.noise(setting)"),
        cell("plots.loss(frame, unit='1 / step', other='n/a');", metadata={"mystnb": mystnb}),
        cell("widgets.data('fig-loss', frame, quantities=['loss'])"),
    ]
    cells[1].metadata["tags"] = ["parameters", "hide-input"]
    kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})


def put(cell, **changes):
    """A mutation of the good chapter: these attributes of this cell become these values."""
    return lambda notebook: notebook.cells[cell].update(changes)


def drop(cell, *keys):
    """A mutation of the good chapter: this entry of this cell's metadata is taken out."""

    def mutate(notebook):
        holder = notebook.cells[cell].metadata
        for key in keys[:-1]:
            holder = holder[key]
        del holder[keys[-1]]

    return mutate


MISTAKES = [
    (answers, put(3, source="## Idea\n\n## Try it\n\nGuess.")),
    (outputs, put(4, execution_count=1)),
    (outputs, put(4, outputs=[nbformat.v4.new_output("stream", text="1")])),
    (kernel, lambda notebook: notebook.metadata.kernelspec.update(name="mine")),
    (parameters, put(1, source="lr = 0.1  # step length")),
    (parameters, put(1, source="lr: float = 0.1")),
    (parameters, put(1, metadata={"tags": ["parameters"]})),
    (parameters, drop(1, "tags")),
    (parameters, put(2, metadata={"tags": ["parameters", "hide-input"]})),
    (import_line, put(4, source="import torch")),
    (import_line, put(2, source="from bnutils import claims")),
    (import_line, put(2, source="")),
    (cells_per_section, lambda notebook: notebook.cells.extend([notebook.cells[4]] * 8)),
    (lines_per_cell, put(4, source="a\n" * 13)),
    (long_functions, put(4, source="def f():\n" + "    a\n" * 5)),
    (device_names, put(4, source="device = 'CUDA:0'")),
    (file_paths, put(4, source="read('../results')")),
    (file_paths, put(4, source="read('results/runs')")),
    (file_paths, put(4, source="read('curves.csv')")),
    (plot_titles, put(4, source="axes.set_title('Faster')")),
    (plot_titles, put(4, source="axes.set(title='Faster')")),
    (downloads, put(6, source="widgets.note('fig-loss')")),
    (downloads, put(6, source="widgets.data('fig-accuracy', frame, quantities=['loss'])")),
    (figure_metadata, drop(5, "mystnb")),
    (figure_metadata, drop(5, "mystnb", "image")),
    (figure_metadata, drop(5, "mystnb", "figure", "caption")),
    (figure_metadata, drop(5, "mystnb", "figure", "name")),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_chapter_passes(check):
    assert not check(good_chapter())


@pytest.mark.parametrize(("check", "mistake"), MISTAKES)
def test_a_mistake_is_seen(check, mistake):
    notebook = good_chapter()
    mistake(notebook)
    assert check(notebook)
