"README.md from nbs/index.ipynb, with its links seen from the root of the repository."

import json
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


def from_root(link: str) -> str:
    "A link of nbs/index.ipynb, as README.md writes it."
    return posixpath.normpath(posixpath.join("nbs", link))


def readme() -> str:
    "The text of README.md; raises ValueError when the index has something other than prose."
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    if any(cell["cell_type"] != "markdown" for cell in cells):
        raise ValueError("nbs/index.ipynb holds prose and code blocks only: README.md is made of it without running it")
    text = "\n\n".join("".join(cell["source"]).strip() for cell in cells) + "\n"
    return LINK.sub(lambda found: f"]({from_root(found[1])})", text)


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
