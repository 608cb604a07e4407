"""Every link within the book leads to a page that is there, and to an anchor that is there. So do the relative links of the
Markdown files beside the book, as a reader of the repository meets them. No network is asked.

Run from the repository's root:  python3 .ci/book_links.py target/book
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Read on their own, and not part of the book.
BESIDE = ["*.md", "docs/**/*.md", "examples/*/README.md", "recordings/README.md"]
LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append(value)


class Document(Page):
    """The same of a Markdown file: headings are anchors, by GitHub's rule."""

    def __init__(self, path: Path):
        text = re.sub(r"^( *)```.*?^\1```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        headings = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
        self.anchors = {"", *(re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings)}
        self.links = LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def dead(paths: list[Path], kind: type[Page], root: Path) -> list[str]:
    pages: dict[Path, Page] = {}

    def page(path: Path) -> Page:
        if path not in pages:
            pages[path] = kind(path)
        return pages[path]

    errors = []
    for path in paths:
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or not target.is_relative_to(root):
                errors.append(f"{path.relative_to(root)}: {link} leads nowhere")
            elif parts.fragment and target.suffix == path.suffix and unquote(parts.fragment) not in page(target).anchors:
                errors.append(f"{path.relative_to(root)}: {link} has no such anchor")
    return errors


def main() -> int:
    book, here = Path(sys.argv[1]).resolve(), Path.cwd()
    pages = sorted(book.rglob("*.html"))
    documents = sorted({path for pattern in BESIDE for path in here.glob(pattern)} - {here / "docs/SUMMARY.md"})
    if not pages or not documents:
        print("nothing to look at")
        return 1
    errors = dead(pages, Page, book) + dead(documents, Document, here)
    for error in errors:
        print(error)
    print(f"{len(pages)} pages of the book, {len(documents)} documents, {len(errors)} dead links")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
