"""The builder, on a book of one chapter: what it says of what went wrong, what it takes from a checkout's origin."""

import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import ThreadingHTTPServer
from threading import Thread

import build
import nbformat
import pytest
from build import MODULES, ROOT
from conftest import Quiet, run_builder


@pytest.fixture
def small(tmp_path):
    """A book of one page and one chapter, whose code cell is to be given; returns how to build it."""

    def build(source, *arguments, index="# Start"):
        book = tmp_path / "book"
        book.mkdir(exist_ok=True)
        for file in ("_config.yml", "requirements.lock", "book/build.py", "book/reference.py"):
            (tmp_path / file).write_bytes((ROOT / file).read_bytes())
        (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/only\n")
        if not (book / "web").exists():
            (book / "web").symlink_to(MODULES.parent)
        shutil.copytree(ROOT / "book" / "_static", book / "_static", dirs_exist_ok=True)
        (book / "references.bib").touch()
        (book / "index.md").write_text(index)
        cells = [nbformat.v4.new_markdown_cell("# Only", id="text"), nbformat.v4.new_code_cell(source, id="code")]
        kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), book / "only.ipynb")
        return run_builder(*arguments, root=tmp_path, cache=tmp_path / "cache")

    return build


def test_what_changed_is_executed_again(small):
    assert "executed in" in small("1").stdout
    assert "not executed" in small("1").stdout
    assert "executed in" in small("2").stdout


def test_an_unknown_parameter_stops_before_anything_runs(tmp_path):
    run = run_builder("--output", tmp_path / "out", "-p", "presett", "smoke", cache=tmp_path)
    assert run.returncode == 2
    assert re.fullmatch(r"unknown parameter presett; the chapters accept .*\bpreset\b.*\n", run.stderr)
    assert not (tmp_path / "out").exists()


def test_a_missing_page_is_named(small, tmp_path):
    small("1")
    (tmp_path / "book" / "only.ipynb").unlink()
    run = run_builder(root=tmp_path, cache=tmp_path)
    assert run.returncode == 2
    assert re.fullmatch(r"_toc\.yml names book/only, but .*\n", run.stderr)


def test_a_failing_chapter_is_named_and_never_built(small, tmp_path):
    run = small("arm = 3\nraise ValueError(f'no arm {arm}')")
    assert run.returncode == 1
    assert re.fullmatch(r"book/only\.ipynb failed: ValueError: no arm 3 .*\n", run.stderr)
    output = tmp_path / "_build"
    assert not (output / "html").exists() and not (output / "executed" / "book" / "only.ipynb").exists()
    assert "Traceback" in (output / "executed" / "book" / "only.failed.ipynb").read_text()


def test_a_dead_kernel_is_named(small):
    run = small("import os\nos._exit(9)")
    assert run.returncode == 1
    assert re.match(r"book/only\.ipynb failed: .*[Kk]ernel died", run.stderr.splitlines()[-1])


def test_a_warning_of_jupyter_book_leaves_the_old_site(small, tmp_path):
    assert small("1").returncode == 0
    for _ in range(2):  # Sphinx itself would forget the warning the second time
        run = small("1", index="# Start again\n\n{ref}`nowhere`")
        assert run.returncode == 1 and "nowhere" in run.stderr
    assert "Start again" not in (tmp_path / "_build" / "html" / "book" / "index.html").read_text()


def test_chapters_run_in_this_python(small, tmp_path, monkeypatch):
    """Whatever other kernel called python3 the user has."""
    other = tmp_path / "share" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["false"], "display_name": "other", "language": "python"}')
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(other.parents[1]))
    run = small("import sys\nprint(sys.prefix)")
    assert run.returncode == 0, run.stderr
    page = nbformat.read(tmp_path / "_build" / "executed" / "book" / "only.ipynb", as_version=4)
    assert page.cells[1].outputs[0].text.strip() == sys.prefix


@pytest.fixture
def origin(tmp_path):
    """Makes the small book a checkout that was cloned from an address."""

    def clone(address):
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
        subprocess.run(["git", "-C", tmp_path, "config", "remote.origin.url", address], check=True)

    return clone


def test_a_chapter_is_launched_from_the_address_of_the_checkout(small, origin, tmp_path):
    origin("https://github.com/some-one/a.book")
    run = small("1")
    assert run.returncode == 0, run.stderr
    book = tmp_path / "_build" / "html" / "book"
    chapter, index = ((book / f"{page}.html").read_text() for page in ["only", "index"])
    launched = "https://mybinder.org/v2/gh/some-one/a.book/main?urlpath=lab/tree/book/only.ipynb"
    assert re.findall(r'href="([^"]*mybinder[^"]*)"', chapter) == [launched]
    assert 'rel="icon"' in chapter  # what else the configuration says of the site stays
    assert "mybinder" not in index  # there is nothing to run on a page without a notebook
    assert all('href="https://github.com/some-one/a.book"' in page for page in (chapter, index))


def test_without_an_address_there_is_no_button(small, tmp_path):
    assert small("1").returncode == 0
    for page in ("only", "index"):
        text = (tmp_path / "_build" / "html" / "book" / f"{page}.html").read_text()
        assert not re.search(r"binder|repository-button|launch-buttons|github", text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://github.com/some-one/a.book.git", "https://github.com/some-one/a.book"),
        ("https://name:secret@github.com/some-one/a.book", "https://github.com/some-one/a.book"),
        ("git@github.com:some-one/a.book.git", "https://github.com/some-one/a.book"),
        ("ssh://git@github.com/some-one/a.book.git", "https://github.com/some-one/a.book"),
        ("https://example.org/github.com/a.book.git", None),
        ("../elsewhere", None),
    ],
)
def test_of_an_origin_only_what_binder_needs_is_taken(origin, tmp_path, monkeypatch, address, found):
    origin(address)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    assert build.repository() == found
    monkeypatch.setattr(build, "ROOT", tmp_path / "inner")  # no checkout itself, it only lies in one
    assert build.repository() is None


def test_a_broken_link_stops_the_link_check_and_is_named(small, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        there, gone = (f"http://127.0.0.1:{server.server_port}/{name}" for name in ("_toc.yml", "gone"))
        (tmp_path / ".venv").symlink_to(sys.prefix)
        make = ["make", "--directory", tmp_path, "--makefile", ROOT / "Makefile", "--old-file", "book", "links"]
        for index, code in [(f"# Start\n\n[there]({there})", 0), (f"# Start\n\n[there]({there}), [gone]({gone})", 2)]:
            assert small("1", index=index).returncode == 0
            run = subprocess.run(make, capture_output=True, text=True)
            assert run.returncode == code, run.stdout + run.stderr
        assert gone in run.stderr and there not in run.stderr
        server.shutdown()
