"""Every link inside of the site leads to a file that is there, and to a heading of that page."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from faults import Fault


class Page(HTMLParser):
    def __init__(self, file):
        super().__init__()
        self.ids = set()
        self.links = []
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def check_links(site):
    pages = {file: Page(file) for file in sorted(site.rglob("*.html"))}
    count, broken = 0, []
    for file, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            count += 1
            target = Path(file.parent, unquote(url.path)).resolve() if url.path else file
            if target.is_dir():
                target /= "index.html"
            heading = unquote(url.fragment)
            if not target.is_file():
                broken.append(f"{file.relative_to(site)}: {link} leads nowhere")
            elif heading and target in pages and heading not in pages[target].ids:
                broken.append(f"{file.relative_to(site)}: {link}: the page has no such heading")
    if broken:
        raise Fault("\n".join(["broken links in the site:", *broken]))
    if count < 1000:
        raise Fault(f"only {count} links were found in the site")
    return count
