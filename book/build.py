"""Execute every notebook of _toc.yml into a copy of the tree, then build the site from the copy with Jupyter Book.

The output folder holds, beside one another:
    executed/  the executed pages, each with the digest of what it was made from; a failed one says so in its name
    tree/      what Jupyter Book reads: the sources, with the executed pages in the place of the notebooks
    html/      the site, and only ever one that was built without a warning
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import nbformat
import papermill
import yaml
from papermill.cli import _resolve_type  # so that -p reads a value as papermill's own -p does
from PIL import Image
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parents[1]
MODULES = ROOT / "book" / "web" / "node_modules"
# numbers that a page carries in a link
CSV = re.compile(r'<a download="(?P<name>[\w-]+\.csv)" href="data:text/csv;base64,(?P<csv>[^"]*)">')
# an address on GitHub, which Binder launches from: https, which may hold a name and a token, or ssh
GITHUB = re.compile(r"(https://([^@/]+@)?|git@|ssh://git@)github\.com[:/](?P<name>[\w.-]+/[\w.-]+?)(\.git)?/?")
# a picture that a widget's state carries
WEBP = re.compile(r'data:image/webp;base64,(?P<webp>[^"]*)')
PNG = re.compile(r'<img (?P<rest>[^>]*src="(?P<src>[^":]*\.png)"[^>]*>)')
# what Sphinx and its theme write into pages and what comes in its place
MENDED = {
    # half a megabyte of script for icons that the theme's stylesheet draws, from a font
    r'<script defer src="[^"]*/fontawesome\.js[^"]*"></script>': "",
    # it would hide the words on show, "Show the code", from a screen reader
    r'<summary aria-label="Toggle hidden content">': "<summary>",
    # entries of a bibliography are no list items
    r'<div role="list" class="citation-list">': '<div class="citation-list">',
}
# what the pages load; the site serves it under the same names, which stand in _config.yml
ASSETS = [
    "mathjax/es5/tex-chtml.js",
    "mathjax/es5/*/**/*",
    "requirejs/require.js",
    "@jupyter-widgets/html-manager/dist/embed-amd.js",
    "@jupyter-widgets/html-manager/dist/*.woff2",
]


def stop(message: str, code: int) -> NoReturn:
    """End with one line on stderr."""
    print(message, file=sys.stderr)
    raise SystemExit(code)


def toc_pages() -> list[Path]:
    """The source file of every page of _toc.yml, in the order of reading."""
    pages = []
    for name in parse_toc_yaml(ROOT / "_toc.yml"):
        files = [ROOT / f"{name}{suffix}" for suffix in (".ipynb", ".md", "")]
        page = next(filter(Path.is_file, files), None)
        if page is None:
            stop(f"_toc.yml names {name}, but there is no {name}.ipynb or {name}.md: add the page or take it out", 2)
        pages.append(page)
    return pages


def check_parameters(parameters: dict, chapters: list[Path]) -> dict[Path, dict]:
    """The share of the parameters that each chapter accepts; a name that no chapter accepts stops the build."""
    accepted = {chapter: papermill.inspect_notebook(chapter) for chapter in chapters}
    known = sorted(set().union(*accepted.values()))
    if unknown := sorted(set(parameters) - set(known)):
        stop(f"unknown parameter {', '.join(unknown)}; the chapters accept {', '.join(known) or 'none'}", 2)
    return {chapter: {n: v for n, v in parameters.items() if n in accepted[chapter]} for chapter in chapters}


def digest(chapter: Path, parameters: dict) -> str:
    """Of everything that an executed page depends on: while it stays, the page stays."""
    files = [chapter, ROOT / "requirements.lock", *ROOT.glob("bnutils/*.py")]
    files += [file for folder in ("paper", "results") for file in (ROOT / "book" / folder).rglob("*") if file.is_file()]
    result = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for file in sorted(files):
        result.update(f"{file.relative_to(ROOT)} {file.stat().st_size} ".encode() + file.read_bytes())
    return result.hexdigest()


def tidy(notebook: nbformat.NotebookNode, folder: Path, name: str) -> None:
    """Hide the injected parameters like the cell they replace; drop the times and paths of the machine that ran it;
    make its figures small; put their numbers, and the pictures of its widgets, into files in this folder."""
    tagged = [set(cell.metadata.get("tags", [])) for cell in notebook.cells]
    shared = set().union(*(tags for tags in tagged if "parameters" in tags))
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags = sorted(shared - {"parameters"} | {"injected-parameters", "hide-input"})
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                data["text/html"] = CSV.sub(lambda link: numbers(link, folder), data["text/html"])
            if "image/png" in data:
                data["image/png"] = in_few_colours(data["image/png"])
    notebook.metadata.pop("papermill", None)
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {"state": {}})
    states = [widget["state"] for widget in widgets["state"].values()]
    pictures = [state for state in states if "data:image/webp" in str(state.get("value"))]
    for place, state in enumerate(pictures):
        file = folder / f"{name}-{place}.webp"
        state["value"] = WEBP.sub(lambda picture, file=file: keep(picture["webp"], file), state["value"])


def numbers(link: re.Match, folder: Path) -> str:
    """A link to the numbers in a file of their own, in the place of one that carries them: the page stays light."""
    return f'<a download="{link["name"]}" href="{keep(link["csv"], folder / link["name"])}">'


def keep(content: str, file: Path) -> str:
    """Write what base64 holds into a file; returns the address that it has in a page."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b64decode(content))
    return f"../_static/{file.parent.name}/{file.name}"


def in_few_colours(png: str) -> str:
    """The picture in the 256 colours that suit it, which the eye takes for the same, at a third of the size."""
    image = Image.open(BytesIO(b64decode(png))).convert("RGB")
    buffer = BytesIO()
    image.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return b64encode(buffer.getvalue()).decode()


def execute(chapter: Path, parameters: dict, tree: Path, executed: Path) -> None:
    """Execute one chapter into `executed`, unless the copy there was made from the very same things."""
    name = chapter.relative_to(ROOT)
    copy, key = executed / name, digest(chapter, parameters)
    if copy.exists() and nbformat.read(copy, as_version=4).metadata.get("digest") == key:
        print(f"{name}: nothing changed, not executed", flush=True)
        return
    # the name says failed until the last cell is through: a killed run leaves nothing that could pass for a page
    failed = copy.with_suffix(".failed.ipynb")
    failed.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    print(f"{name}: executing", flush=True)
    try:
        notebook = papermill.execute_notebook(
            chapter,
            failed,
            parameters,
            kernel_name="python3",
            cwd=tree / "book",
            progress_bar=sys.stderr.isatty(),
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, whose small talk would land on stderr
        )
    except KeyboardInterrupt:
        print(
            f"{name} interrupted: no site was built, that of the last build stays; finished runs are kept",
            file=sys.stderr,
        )
        os._exit(130)  # at once: an orderly end lets asyncio bury the line above under what it had pending
    except Exception as error:  # of the chapter, its kernel or papermill: each ends the build in the same way
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        stop(
            f"{name} failed: {reason} (no site was built, that of the last build stays; the traceback is in {failed})",
            1,
        )
    tidy(notebook, executed / "data", chapter.stem)
    notebook.metadata["digest"] = key
    nbformat.write(notebook, failed)
    failed.replace(copy)
    print(f"{name}: executed in {time.perf_counter() - start:.0f} s", flush=True)


def repository() -> str | None:
    """The address on GitHub of this checkout's origin, if it has one. Of this folder, not of one that it lies in."""
    command = ["git", "--git-dir", ROOT / ".git", "remote", "get-url", "origin"]
    try:
        origin = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git
        return None
    found = GITHUB.fullmatch(origin)
    return f"https://github.com/{found['name']}" if found else None


def configure(tree: Path) -> None:
    """Write the copy's _config.yml: where the address is known, with the buttons that need it."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    if address := repository():
        config["repository"]["url"] = address
        config["html"]["use_repository_button"] = True
        config["launch_buttons"] = {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"}
    (tree / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))


def copy_tree(tree: Path) -> None:
    """A fresh copy of what Jupyter Book reads, and of what the pages load."""
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT / "book", tree / "book", ignore=shutil.ignore_patterns("web", "__pycache__", ".*"))
    shutil.copy2(ROOT / "_toc.yml", tree)
    configure(tree)
    for asset in (file for pattern in ASSETS for file in MODULES.glob(pattern) if file.is_file()):
        target = tree / "_assets" / asset.relative_to(MODULES)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(asset, target)


def mend(page: Path) -> None:
    """Give every picture of a built page its size, so that nothing moves when it comes, and a link to its file, to be
    seen whole; put right what is in MENDED."""

    def sized(image: re.Match) -> str:
        width, height = Image.open(page.parent / image["src"]).size
        return f'<a class="full" href="{image["src"]}"><img width="{width}" height="{height}" {image["rest"]}</a>'

    html = PNG.sub(sized, page.read_text())
    for pattern, better in MENDED.items():
        html = re.sub(pattern, better, html)
    page.write_text(html)


def build_site(tree: Path, output: Path) -> None:
    """Run Jupyter Book on the copy; every warning is an error, and an old site gives way only to a whole new one."""
    site, draft = output / "html", output / "draft"
    shutil.rmtree(draft, ignore_errors=True)  # Sphinx does not repeat the warnings of a page that it has read before
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", tree, "--path-output", draft, "-W", "-n", "--keep-going", "-q"]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        stop(f"Jupyter Book stopped on what it says above; {site} is as it was before", 1)
    for page in (draft / "_build" / "html").rglob("*.html"):
        mend(page)
    shutil.rmtree(site, ignore_errors=True)
    (draft / "_build" / "html").rename(site)
    shutil.rmtree(draft)
    print(f"the site: {site / 'index.html'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "_build", help="folder of the site (default: _build)")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter of the chapters"
    )
    arguments = parser.parse_args()

    pages = toc_pages()
    chapters = [page for page in pages if page.suffix == ".ipynb"]
    parameters = check_parameters({name: _resolve_type(value) for name, value in arguments.p}, chapters)
    if not MODULES.is_dir():
        stop("the files that the pages load are missing: run `make book`, which installs them with npm", 2)

    output = arguments.output.resolve()
    tree, executed = output / "tree", output / "executed"
    # first of all the kernel of this very Python, whatever other kernels called python3 the user has
    os.environ["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # as papermill's own command does: no debugger talk on stderr
    if sys.stderr.isatty():
        os.environ["BNUTILS_TTY"] = os.ttyname(sys.stderr.fileno())  # for bnutils.runs, which draws its bars there
    copy_tree(tree)
    for chapter in chapters:
        execute(chapter, parameters[chapter], tree, executed)
    for chapter in chapters:
        shutil.copy2(executed / chapter.relative_to(ROOT), tree / chapter.relative_to(ROOT))
    if (executed / "data").is_dir():
        shutil.copytree(executed / "data", tree / "_assets" / "data")
    build_site(tree, output)


if __name__ == "__main__":
    main()
