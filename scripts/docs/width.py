"""No page is wider than a phone: tables and code scroll within the page. Needs chromium, which `make tools` installs."""

import json
import shutil
import subprocess
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue

from faults import Fault, say

PHONE = 390
# For all pages together. Measured: 7 s on two busy cores.
SECONDS = 120

LOOK = """<!doctype html><meta charset="utf-8"><body><script>
(async () => {
  const found = [];
  for (const page of PAGES) {
    const frame = document.createElement('iframe');
    frame.style = 'width: PHONEpx; height: 844px; border: 0';
    frame.src = page;
    await new Promise((loaded) => { frame.onload = loaded; document.body.append(frame); });
    const view = frame.contentDocument;
    const parts = [view.documentElement, view.body, view.querySelector('main')];
    found.push({ page, over: Math.max(...parts.map((part) => part.scrollWidth - part.clientWidth)) });
    frame.remove();
  }
  await fetch('/found', { method: 'POST', body: JSON.stringify(found) });
})();
</script>"""


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, pages, found, *arguments, **named):
        self.pages = pages
        self.found = found
        super().__init__(*arguments, **named)

    def do_GET(self):
        if self.path != "/look":
            return super().do_GET()
        self.answer(LOOK.replace("PAGES", json.dumps(self.pages)).replace("PHONE", str(PHONE)))

    def do_POST(self):
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer("")

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def check_width(site):
    chromium = shutil.which("chromium")
    if not chromium:
        say(f"skipped: whether the pages fit {PHONE} px; chromium is missing, which `make tools` installs")
        return
    # The list of pages is a frame that is shown without scripts only.
    pages = [f"/{file.relative_to(site)}" for file in sorted(site.rglob("*.html")) if file.name != "toc.html"]
    found = Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, pages, found, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            [chromium, *options, "--remote-debugging-port=0", f"http://127.0.0.1:{server.server_port}/look"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            looked = found.get(timeout=SECONDS)
        except Empty:
            raise Fault(f"chromium did not look at the pages within {SECONDS} s") from None
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    wide = [f"{page['page']}: {page['over']} px too wide" for page in looked if page["over"] > 0]
    if wide:
        raise Fault("\n".join([f"pages that scroll sideways at {PHONE} px:", *wide]))
    say(f"{len(looked)} pages fit {PHONE} px")
