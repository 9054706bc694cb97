"""Gathers the pages for mdBook. It needs all of them in one folder; ours are where one looks for them in the repository.
So they are copied with their places kept, which keeps the links between them. What they link to beside pages and
pictures (a config, an example, a folder) becomes a page that shows it, so that it can be read on a phone and without the
repository.
"""

import re
import shutil
import subprocess
from pathlib import Path

from faults import Fault

LINK = re.compile(r"(\]\()([^)\s]+)")
# mdBook calls a folder's README index.html, and leaves the links to it as they are.
INDEX = re.compile(r"\bREADME\.md$")
PICTURES = {".png", ".svg"}
LANGUAGES = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def with_links(text, change):
    """The text with each link in it changed; what stands in code is not a link."""
    lines, fenced = [], False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            parts = re.split(r"(`+[^`]*`+)", line)
            parts[::2] = [LINK.sub(lambda found: found[1] + change(found[2]), part) for part in parts[::2]]
            line = "".join(parts)
        lines.append(line)
    return "".join(lines)


def fenced(file):
    fence = "`" * 4
    return f"{fence}{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text().rstrip()}\n{fence}\n"


class Pages:
    def __init__(self, root, folder):
        self.root = root
        self.folder = folder
        self.summary = root / "docs/SUMMARY.md"
        self.pages = [self.target(self.summary, link) for link in self.links(self.summary)]
        # Files and folders that pages link to, in the order in which they are found.
        self.shown = []

    def gather(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        for page in self.pages:
            if not page.is_file():
                raise Fault(f"docs/SUMMARY.md names {self.name(page)}, which does not exist")
            text = with_links(page.read_text(), lambda link, page=page: self.rewritten(page, link))
            self.write(INDEX.sub("index.md", self.name(page)), text)
        for path in self.shown:
            self.write(f"{self.name(path)}.md", self.shown_as_page(path))
        # The same list as seen from the root, and what pages link to below it.
        summary = with_links(
            self.summary.read_text(), lambda link: INDEX.sub("index.md", self.name(self.target(self.summary, link)))
        )
        files = "".join(f"- [{self.name(path)}]({self.name(path)}.md)\n" for path in sorted(self.shown))
        self.write("SUMMARY.md", f"{summary}\n# Files\n\n{files}")

    def rewritten(self, page, link):
        file, hash_, anchor = link.partition("#")
        if not file or re.match(r"[a-z]+:", file):
            return link
        target = self.target(page, file)
        if target in self.pages:
            return f"{INDEX.sub('index.md', file)}{hash_}{anchor}"
        if target.suffix == ".md":
            raise Fault(f"{self.name(page)} links to {self.name(target)}, which is not in docs/SUMMARY.md")
        if not target.exists():
            raise Fault(f"{self.name(page)} links to {file}, which does not exist")
        if target.suffix in PICTURES:
            copy = self.folder / self.name(target)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, copy)
            return link
        if target not in self.shown:
            self.shown.append(target)
        return f"{file.rstrip('/')}.md{hash_}{anchor}"

    def shown_as_page(self, path):
        if path.is_file():
            return f"# {self.name(path)}\n\n{fenced(path)}"
        listed = subprocess.check_output(["git", "ls-files", "."], cwd=path, text=True)
        files = "\n".join(f"## {name}\n\n{fenced(path / name)}" for name in listed.splitlines())
        return f"# {self.name(path)}\n\n{files}"

    def write(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def links(self, page):
        found = []
        with_links(page.read_text(), lambda link: found.append(link) or link)
        return found

    def target(self, page, link):
        return (page.parent / link).resolve()

    def name(self, path):
        return str(path.relative_to(self.root))
