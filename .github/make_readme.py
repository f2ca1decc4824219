"README.md from nbs/index.ipynb: cells that begin with `#| echo: false` show only their output."

from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent


def readme() -> str:
    nb = nbformat.read(root / "nbs" / "index.ipynb", as_version=4)
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == "code" and cell.source.startswith("#| echo: false"):
            nb.cells[i] = nbformat.v4.new_markdown_cell(cell.outputs[0].data["text/markdown"])
    text, _ = MarkdownExporter().from_notebook_node(nb)
    return text.replace("```\nfrom ", "```python\nfrom ").strip() + "\n"


if __name__ == "__main__":
    (root / "README.md").write_text(readme(), encoding="utf-8")
