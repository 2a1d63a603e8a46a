"""The whole book: chapters that execute, and a site that works without a network."""

import ast
import gzip
import json
import re
import sys
from types import SimpleNamespace

import nbformat
import papermill
import pytest
from build import MODULES, ROOT
from conftest import run_builder
from sphinx_external_toc.parsing import parse_toc_yaml

from bnutils import claims, data

PAGES = list(parse_toc_yaml(ROOT / "_toc.yml"))
CHAPTERS = [page for page in PAGES if (ROOT / f"{page}.ipynb").exists()]
# what axe finds in the theme's own markup, by rule and element: the words in these buttons (a shortcut, a mode) are not
# in their labels
OF_THE_THEME = {
    ("label-content-name-mismatch", ".search-button-field"),
    ("label-content-name-mismatch", ".theme-switch-button"),
}
# sums up by how much of the window things move while nobody touches the page
SHIFTS = """
    window.shifted = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.shifted += entry.value; }))
        .observe({ type: "layout-shift", buffered: true });
"""


# ---- the executed pages --------------------------------------------------------------------------------------------


@pytest.fixture(params=CHAPTERS)
def executed(request, built):
    return nbformat.read(built[0] / "executed" / f"{request.param}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def test_every_cell_was_executed_and_none_failed(executed):
    for cell in code(executed):
        assert cell.execution_count, cell.source
        assert not [out for out in cell.outputs if out.output_type == "error" or out.get("name") == "stderr"], cell


def test_every_drawn_figure_has_caption_name_and_alt_text(executed):
    for cell in code(executed):
        if any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {})):
            mystnb = {"figure": {}, "image": {}} | cell.metadata.get("mystnb", {})
            assert {"caption", "name"} <= set(mystnb["figure"]) and mystnb["image"].get("alt"), cell.source


def test_a_page_tells_nothing_of_the_machine(executed, built):
    text = json.dumps(executed)
    assert not [path for path in (ROOT, sys.prefix, *built) if str(path) in text]
    assert "papermill" not in executed.metadata
    assert not [cell for cell in executed.cells if {"papermill", "execution"} & set(cell.metadata)]


# Tables that a page computed from its frames; other files hold rows of frames.
COMPUTED = {"fig-accuracy", "fig-laboratory", "fig-scatter", "fig-widths", "distances", "slider-mistakes"}
COMPUTED = {f"{name}.csv" for name in COMPUTED}
# Chapter 9's, of networks that came to the loss at which they are compared: at smoke none does.
OF_THE_BAND = {"fig-rescaling.csv", "fig-curves.csv", "fig-accuracy.csv"}


def test_the_numbers_of_every_figure_are_a_file_beside_the_page(executed, built):
    """A page carries links; what they lead to is in the site, and is a table."""
    text = json.dumps(executed)
    assert "data:text/csv" not in text
    for name in re.findall(r"_static/data/([\w-]+\.csv)", text):
        head, *rows = (built[0] / "html" / "_static" / "data" / name).read_text().splitlines()
        assert name in COMPUTED or ("quantity" in head.split(",") and head.endswith(",of")), name
        assert len(head.split(",")) > 2 and (rows or name in OF_THE_BAND), name


def test_nothing_is_executed_twice(built):
    output, cache = built
    pages = [output / "executed" / f"{page}.ipynb" for page in CHAPTERS]
    before = [page.stat().st_mtime_ns for page in pages]
    run = run_builder("--output", output, "-p", "preset", "smoke", cache=cache)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("nothing changed, not executed") == len(CHAPTERS)
    assert [page.stat().st_mtime_ns for page in pages] == before


# ---- what pages say of the project ---------------------------------------------------------------------------------


def test_the_table_of_parameters_is_true():
    """Each row of it names parameters, and the chapters that have them, by number."""
    accepted = {page: set(papermill.inspect_notebook(ROOT / f"{page}.ipynb")) for page in CHAPTERS}
    chapters = {int(page.removeprefix("book/")[:2]): names for page, names in accepted.items() if page[5].isdigit()}
    found = {}
    for line in (ROOT / "book" / "rerun.md").read_text().splitlines():
        if line.startswith("| `"):
            _, names, _, where, _ = (cell.strip() for cell in line.split("|"))
            numbers = set(chapters) if where == "all" else set()
            for low, _, high in re.findall(r"(\d+)( to (\d+))?", where):
                numbers |= set(range(int(low), int(high or low) + 1))
            found |= dict.fromkeys(re.findall(r"`(\w+)`", names), numbers)
    assert found == {
        name: {n for n, has in chapters.items() if name in has} for name in set().union(*chapters.values())
    }


def test_the_page_on_reproducing_names_the_copy_of_the_images():
    text = (ROOT / "book" / "reproduce.ipynb").read_text()
    assert data.JPEG in text and data.JPEG_COMMIT in text


# ---- the reference: an entry for whatever is public, equations that are set, links from the chapters ----------------

SOURCES = {path.stem: ast.parse(path.read_text()) for path in sorted((ROOT / "bnutils").glob("[!_]*.py"))}
# how the docstrings wrote their equations when they were plain text
ASCII = re.compile(r"\|\||\^|\bsqrt\(|<-|(?<!-)->|[<>]=|\b[A-Za-z]+_[a-z] =")
MARKUP = re.compile(r'<(span|div) class="math.*?</\1>|<code.*?</code>|<[^>]+>', re.DOTALL)


def public(module: ast.Module) -> list[str]:
    kinds = ast.FunctionDef | ast.ClassDef
    return [node.name for node in module.body if isinstance(node, kinds) and not node.name.startswith("_")]


@pytest.fixture(scope="module")
def entries(built) -> dict[str, list[str]]:
    """By page, the names that an entry of it has as its anchor."""
    pages = (built[0] / "html" / "book" / "api").glob("*.html")
    return {page.name: re.findall(r'<dt [^>]*id="(bnutils[\w.]+)"', page.read_text()) for page in pages}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_public_has_an_entry_and_only_one(name, entries):
    """Without a docstring it would have none."""
    found = [entry for page in entries.values() for entry in page]
    assert public(SOURCES[name])
    assert not [each for each in public(SOURCES[name]) if found.count(f"bnutils.{name}.{each}") != 1]


@pytest.mark.parametrize("page", ["training", "measuring", "running", "judging"])
def test_an_entry_says_something_and_sets_its_equations(page, built):
    text = (built[0] / "html" / "book" / "api" / f"{page}.html").read_text()
    said = re.findall(r"<dd>(.*?)</dd>", text, re.DOTALL)
    words = [MARKUP.sub("", each) for each in said]
    assert words and all(map(str.strip, said))
    assert not [match for each in words for match in ASCII.findall(each)]


@pytest.mark.parametrize("equation", ["||g||^2", "a <- s a", "eta -> 0", "sqrt(m)", "||X|| <= 1", "mu_j = 0"])
def test_an_equation_in_plain_text_is_seen(equation):
    assert ASCII.search(equation)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_links_what_it_prints(chapter, built, entries):
    """Every link into the reference leads to an entry; every function that is printed has one."""
    text = (built[0] / "html" / f"{chapter}.html").read_text()
    links = re.findall(r'href="api/(\w+\.html)#(module-)?(bnutils[\w.]+)"', text)
    linked = {name for _, _, name in links}
    assert not [name for page, module, name in links if not module and name not in entries[page]]
    cells = nbformat.read(ROOT / f"{chapter}.ipynb", as_version=4).cells
    calls = "".join(re.findall(r"widgets\.source\((.*?)\)", "\n".join(cell.source for cell in cells)))
    printed = re.findall(r'"(\w+\.[a-zA-Z]\w*)"', calls)
    assert printed and {f"bnutils.{name}" for name in printed} <= linked


# ---- the site, in a browser without a network ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=PAGES)
def visit(request, browser, address):
    """One page, open and at rest: `page`, what went wrong (`problems`), what it asked of other hosts (`foreign`), and
    how far things moved while it loaded (`shifted`)."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, problems, foreign = context.new_page(), [], []

    def gate(route):
        if route.request.url.startswith(address):
            return route.continue_()
        foreign.append(route.request.url)
        route.abort()

    context.route("**/*", gate)
    context.add_init_script(SHIFTS)
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda failed: problems.append(failed.url))
    page.on("response", lambda answer: answer.ok or problems.append(f"{answer.status} {answer.url}"))
    page.goto(f"{address}{request.param}.html", wait_until="networkidle")
    page.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
    page.evaluate("window.MathJax && MathJax.startup.promise")
    shifted = page.evaluate("shifted")
    page.add_style_tag(content="* { transition: none !important; }")  # so that a resized page is at rest at once
    yield SimpleNamespace(name=request.param, page=page, problems=problems, foreign=foreign, shifted=shifted)
    context.close()


def test_page_asks_no_other_host(visit):
    assert not visit.foreign


def test_page_loads_without_an_error(visit):
    assert not visit.problems


def test_nothing_moves_while_a_page_loads(visit):
    assert visit.shifted < 0.1


def test_a_page_is_light(visit, built, address):
    """Compressed, with every figure, less the widget bundle and the pictures of the widgets."""
    names = """[...performance.getEntriesByType("resource").map(entry => entry.name), location.href,
                ...[...document.images].map(image => image.src)]"""
    files = [name.removeprefix(address) for name in visit.page.evaluate(names) if not name.startswith("data:")]
    paths = {name.split("?")[0].split("#")[0] for name in files}
    widgets = {path for path in paths if "/requirejs/" in path or "/html-manager/" in path or path.endswith(".webp")}
    assert bool(widgets) == bool(visit.page.locator("script[type*='widget-state']").count())
    weight = {path: len(gzip.compress((built[0] / "html" / path).read_bytes())) for path in paths - widgets}
    assert f"{visit.name}.html" in weight and sum(weight.values()) < 1.5e6, weight


def test_a_page_has_the_icon(visit, built):
    icon = visit.page.locator("link[rel~='icon']").get_attribute("href")
    assert (built[0] / "html" / visit.name).parent.joinpath(icon.split("?")[0]).resolve().is_file()


@pytest.mark.parametrize(("mode", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_axe_finds_nothing_serious(visit, mode, width):
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("mode => { document.documentElement.dataset.theme = mode; }", mode)
    # the theme lets the keyboard into what scrolls a moment after it has come
    page.wait_for_function("""[...document.querySelectorAll("pre")].every(
        box => box.scrollWidth <= box.clientWidth || box.tabIndex === 0)""")
    if not page.evaluate("!!window.axe"):
        page.add_script_tag(path=MODULES / "axe-core" / "axe.min.js")
    found = page.evaluate("axe.run({ resultTypes: ['violations'] }).then(result => result.violations)")
    serious = [
        (rule["id"], node["target"][0], node["html"], node["failureSummary"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert not [each for each in serious if each[:2] not in OF_THE_THEME]


def test_a_slider_says_its_name_and_its_value(visit):
    for slider in visit.page.locator(".widget-slider").all():
        handle = slider.locator(".noUi-handle")
        for key in ("ArrowRight", "ArrowLeft"):
            handle.press(key)
            assert handle.get_attribute("aria-valuetext") == slider.locator(".widget-readout").inner_text()
        assert handle.get_attribute("aria-label") == slider.locator(".widget-label").inner_text()


def test_every_formula_is_typeset(visit):
    missing = "nodes => nodes.filter(node => !node.querySelector('mjx-container')).map(node => node.textContent)"
    assert not visit.page.eval_on_selector_all(".math", missing)
    assert not visit.page.locator("mjx-merror, [data-mjx-error]").count()
    prose = """() => {
        const copy = document.body.cloneNode(true);
        copy.querySelectorAll("pre, code, script, style, mjx-container").forEach(node => node.remove());
        return copy.textContent;
    }"""
    assert not re.findall(r"\\[()\[\]].*|\$[^$\n]+\$", visit.page.evaluate(prose))


def test_every_image_is_there_and_has_a_text(visit):
    broken = """images => Promise.all(images.map(async image => {
        await image.decode().catch(() => {});
        return image.naturalWidth && image.alt.trim() ? null : image.outerHTML.slice(0, 200);
    }))"""
    assert not list(filter(None, visit.page.eval_on_selector_all("img", broken)))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(visit, width):
    visit.page.set_viewport_size({"width": width, "height": 900})
    wide = """nodes => nodes.filter(node => {
        if (node.getBoundingClientRect().right <= innerWidth + 1 || !node.checkVisibility()) return false;
        for (let box = node.parentElement; box && box !== document.body; box = box.parentElement)
            if (getComputedStyle(box).overflowX !== "visible") return false;
        return true;
    }).map(node => node.outerHTML.slice(0, 200))"""
    assert not visit.page.eval_on_selector_all(".bd-article *", wide)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    stretched = """images => images.filter(image => image.checkVisibility() && image.naturalWidth && Math.abs(
        image.width / image.height - image.naturalWidth / image.naturalHeight) > 0.05).map(image => image.src)"""
    assert not visit.page.eval_on_selector_all(".bd-article img", stretched)


def test_parameters_are_hidden(visit):
    cells = visit.page.locator(".tag_parameters, .tag_injected-parameters")
    own = (ROOT / f"{visit.name}.ipynb").read_text() if visit.name in CHAPTERS else ""
    assert cells.count() == (2 if '"preset: str' in own else 1 if own else 0)
    for cell in cells.all():
        assert not cell.locator("pre").first.is_visible()
        assert cell.locator("summary").is_visible()


def shown(page):
    """What a reader sees of the pictures and texts that the controls switch between."""
    return page.eval_on_selector_all(
        ".widget-html-content, .widget-htmlmath-content",
        "boxes => boxes.filter(box => box.checkVisibility()).map(box => box.innerHTML)",
    )


def test_every_control_answers_the_keyboard(visit):
    """A slider and a menu to the arrow keys, buttons to the enter key; each changes what is shown."""
    page = visit.page
    kinds = {".noUi-handle": ("ArrowRight", "ArrowLeft"), "select": ("ArrowDown", "ArrowUp"), "button": ("Enter",)}
    answers = []
    for kind, keys in kinds.items():
        for control in page.locator(f".widget-box {kind}:not(.mod-active)").all():
            if control.is_visible():
                before = shown(page)
                control.focus()
                answers += [any(page.keyboard.press(key) or shown(page) != before for key in keys)]
    assert all(answers)
    assert answers or not re.match(r"book/\d", visit.name), "every chapter has a control"


# ---- the whole book at its default -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_book_fits_into_binder(default_book):
    """From an empty cache: prints time and memory of each chapter, and holds the memory to Binder's 2 GiB."""
    kernels = default_book[2]
    for page, (seconds, memory) in zip(CHAPTERS, kernels, strict=True):
        print(f"{page}: {seconds:.0f} s, at most {memory / 2**30:.2f} GiB")
    assert max(memory for _, memory in kernels) < 2 * 2**30


@pytest.mark.slow
@pytest.mark.parametrize("page", CHAPTERS)
def test_a_page_of_the_default_book_has_numbers_and_a_verdict(default_book, page):
    text = (default_book[0] / "html" / f"{page}.html").read_text()
    said = re.sub(r"<(script|pre)\b.*?</\1>|<[^>]+>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|0 of 0)\b", said)
    if re.search(r"claims\.(judge|verdicts)\(", (ROOT / f"{page}.ipynb").read_text()):
        assert any(f"{sign} {word.capitalize()}." in text for word, sign in claims.SIGNS.items())
