"""MkDocs hook: pages made of what lies beside docs/: the gallery of studies, and the benchmarks.

On the gallery's page each link to a study's README becomes the study: its claim, its verdict and its figure.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from unitgain.report.study import Study, study_folders

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "experiments"
LINK = re.compile(r"^- \[.*\]\(\.\./experiments/(\w+)/README\.md\)$", re.MULTILINE)
TITLE = re.compile(r"^# (.*)$", re.MULTILINE)
ALT = re.compile(r"!\[([^\]]*)\]\(figure\.png\)")
FOLDER = re.compile(r"\[`(\w+/)`\]\(\w+\)")


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add the studies' figures to the site, and the page of benchmarks."""
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    page = FOLDER.sub(r"`benchmarks/\1`", measured).replace("](../docs/", "](")
    files.append(File.generated(config, "benchmarks.md", content=page))
    for folder in study_folders(STUDIES):
        figure = str(folder / "figure.png")
        files.append(File.generated(config, _figure(folder.name), abs_src_path=figure))


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Put the studies where they are linked, and link to the page of benchmarks."""
    markdown = markdown.replace("](../benchmarks/README.md", "](benchmarks.md")
    if page.file.src_uri != "studies.md":
        return markdown
    return LINK.sub(lambda link: section(STUDIES / link[1]), markdown)


def section(folder: Path) -> str:
    """What the gallery shows of a study."""
    study, readme = Study.read(folder), (folder / "README.md").read_text(encoding="utf-8")
    title, alt, expected = TITLE.search(readme), ALT.search(readme), study.expected
    assert title is not None, folder
    assert alt is not None, folder
    verdict = "The claim holds." if expected.holds else "The claim does not hold."
    return "\n\n".join(
        (
            f"### {title[1]}",
            f"{expected.claim} *{expected.source}.*",
            f"**{verdict}** {expected.verdict}",
            f"![{' '.join(alt[1].split())}]({_figure(folder.name)})",
            f"`unitgain study {study.name}`: {expected.cost}.",
        )
    )


def _figure(name: str) -> str:
    return f"figures/studies/{name}.png"
