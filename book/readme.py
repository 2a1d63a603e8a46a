"""Write what README.md shows of the book, its figure and its verdicts, from the executed pages of the last build."""

import base64

import nbformat
from build import ROOT, stop, toc_pages

from bnutils import claims

START, END = "<!-- verdicts: written by `make readme` -->\n", "<!-- end of verdicts -->"
RECORD = "application/papermill.record/text/plain"


def main() -> None:
    """Read the executed chapters, write the figure and the table."""
    chapters = [page.relative_to(ROOT) for page in toc_pages() if page.suffix == ".ipynb"]
    executed = [ROOT / "_build" / "executed" / chapter for chapter in chapters]
    if not all(page.exists() for page in executed):
        stop("no executed pages: run `make book` first", 2)
    cells = [cell for page in executed for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "code"]
    figures = [cell for cell in cells if "fig-train-accuracy" in str(cell.metadata.get("mystnb"))]
    png = next(output.data["image/png"] for output in figures[0].outputs if "image/png" in output.get("data", {}))
    (ROOT / "book" / "_static" / "headline.png").write_bytes(base64.b64decode(png))
    glued = {
        output.metadata["scrapbook"]["name"]: output.data[RECORD].strip("'")
        for cell in cells
        for output in cell.outputs
        if RECORD in output.get("data", {})
    }
    words = {name: (glued[f"largest-{name}"], glued[f"scale-{name}"]) for name in claims.CLAIMS}
    rows = [
        f"| {claims.CLAIMS[name].statement} | {claims.SIGNS[word]} {word} | {scale} |"
        for name, (word, scale) in words.items()
    ]
    table = "\n".join(["| Claim | Verdict | at the scale of |", "|---|---|---|", *rows])
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(START)
    readme.write_text(f"{before}{START}{table}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
