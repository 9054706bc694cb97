"""The pages as a site with search, in target/docs/site. Installs mdBook into .tools/docs (with cargo, about four minutes,
once), gathers the pages, builds, and then reads the result as a browser does: every link inside of the site leads to a
page and a heading, and no page is wider than a phone.

Run by `make docs`. Links to the sources and an edit button, where the repository has an address:
MDBOOK_OUTPUT__HTML__GIT_REPOSITORY_URL=https://git.example.org/alerts make docs
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from faults import Fault, say
from links import check_links
from pages import Pages
from width import check_width

ROOT = Path(__file__).resolve().parents[2]
PIN = "0.5.4"
TOOLS = ROOT / ".tools/docs"
MDBOOK = TOOLS / "bin/mdbook"


def install():
    if MDBOOK.exists() and run([MDBOOK, "--version"]).strip() == f"mdbook v{PIN}":
        return
    cargo = shutil.which("cargo", path=f"{os.environ.get('PATH', '')}:{Path.home()}/.cargo/bin")
    if not cargo:
        raise Fault("cargo is missing, which installs mdBook: https://rustup.rs")
    say(f"installing mdBook {PIN} into {TOOLS.relative_to(ROOT)} (about four minutes, once)")
    # A target folder beside it: other features of the same crates would rebuild those of the receiver.
    target = TOOLS / "target"
    subprocess.run(
        [cargo, "install", "--quiet", "--locked", "--force", "--root", TOOLS, f"mdbook@{PIN}"],
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        check=True,
    )
    shutil.rmtree(target, ignore_errors=True)


def run(command):
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Fault(f"{Path(command[0]).name} failed:\n{done.stdout}")
    return done.stdout


def main():
    built = ROOT / "target/docs"
    pages = Pages(ROOT, built / "pages")
    pages.gather()
    install()
    said = run([MDBOOK, "build"])
    # It goes on where a page cannot be read as it was meant.
    if " WARN " in said or "ERROR" in said:
        raise Fault(f"mdbook warns:\n{said}")
    site = built / "site"
    say(f"{check_links(site)} links inside of the site lead somewhere")
    check_width(site)
    say(f"file://{site}/index.html")


try:
    main()
except (Fault, subprocess.CalledProcessError) as fault:
    print(f"docs: FAILED: {fault}", file=sys.stderr)
    sys.exit(1)
