"""Pages of the site that are made from other files: the README, the tour, and a reference page for each folder."""

import re
from pathlib import Path

import mkdocs_gen_files

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "microgpt"


def write(name: str, text: str) -> None:
    with mkdocs_gen_files.open(name, "w") as file:
        file.write(text)


def reference(title: str, modules: list[str]) -> str:
    return f"# {title}\n\n" + "\n".join(f"::: {module}\n" for module in modules)


readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
write("index.md", readme.replace("](notebooks/", "]("))
write("tour.ipynb", (ROOT / "notebooks" / "tour.ipynb").read_text(encoding="utf-8"))
write("reference/microgpt.md", reference("microgpt", ["microgpt.api", "microgpt.notebook", "microgpt.errors"]))
for folder in sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
    modules = [f"microgpt.{folder.name}.{file.stem}" for file in sorted(folder.glob("[a-z]*.py"))]
    write(f"reference/{folder.name}.md", reference(folder.name, modules))

# What the pages say about files outside of them is text here, not a link.
for page in (ROOT / "docs").glob("*.md"):
    text = page.read_text(encoding="utf-8")
    write(page.name, re.sub(r"\[([^\]]+)\]\(\.\./(?!docs)[^)]*\)", r"\1", text))
