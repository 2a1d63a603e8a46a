"""The reference: an entry for whatever is public, equations that are set, links from the chapters that lead there."""

import ast
import re

import nbformat
import pytest
from build import ROOT

MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted((ROOT / "bnutils").glob("[!_]*.py"))}
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
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


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_has_an_entry_and_only_one(name, entries):
    """Without a docstring it would have none."""
    found = [entry for page in entries.values() for entry in page]
    assert public(MODULES[name])
    assert not [each for each in public(MODULES[name]) if found.count(f"bnutils.{name}.{each}") != 1]


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
    text = (built[0] / "html" / "book" / f"{chapter}.html").read_text()
    links = re.findall(r'href="api/(\w+\.html)#(module-)?(bnutils[\w.]+)"', text)
    linked = {name for _, _, name in links}
    assert not [name for page, module, name in links if not module and name not in entries[page]]
    cells = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells
    calls = "".join(re.findall(r"widgets\.source\((.*?)\)", "\n".join(cell.source for cell in cells)))
    printed = re.findall(r'"(\w+\.[a-zA-Z]\w*)"', calls)
    assert printed and {f"bnutils.{name}" for name in printed} <= linked
