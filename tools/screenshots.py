"""``python tools/screenshots.py``: the site as a browser shows it, as wide as a telephone and a PC.

Takes `make docs`' pages and a Chromium or Chrome that is installed; pictures of four pages go into
``build/screenshots``, to be looked at. Status 1 if any page of the site is wider than its window.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGES = ("index", "start/pc", "how/index", "records/benchmarks")
WIDTHS = (400, 1280)
HEIGHT = 1600

# Opens each page in a frame of the width that is asked for, and leaves those that scroll sideways.
MEASURE = """<!doctype html><body><pre id="wide"></pre><script>
const pages = PAGES, width = WIDTH, wide = [];
const frame = document.createElement("iframe");
frame.style.cssText = `width: ${width}px; height: 900px; border: 0`;
document.body.append(frame);
(async () => {
  for (const page of pages) {
    await new Promise(loaded => { frame.onload = loaded; frame.src = page; });
    const root = frame.contentDocument.documentElement;
    if (root.scrollWidth > root.clientWidth) wide.push(`${page} ${root.scrollWidth}`);
  }
  document.getElementById("wide").textContent = `seen ${pages.length}\\n` + wide.join("\\n");
})();
</script>"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tools/screenshots.py")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "screenshots")
    folder = parser.parse_args().output
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"there is none of {', '.join(BROWSERS)}: apt install chromium", file=sys.stderr)
        return 2
    if not (SITE / "index.html").exists():
        print(f"there is no site in {SITE}: make docs", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    too_wide = []
    for width in WIDTHS:
        for page in PAGES:
            picture = folder / f"{page.replace('/', '-')}-{width}.png"
            look(browser, width, f"--screenshot={picture}", (SITE / f"{page}.html").as_uri())
            print(picture)
        too_wide += [f"{width} pixels: {line}" for line in wider(browser, width)]
    print("\n".join(too_wide) or "no page is wider than its window")
    return 1 if too_wide else 0


def look(browser: str, width: int, *arguments: str) -> str:
    """What the browser prints."""
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        + ["--allow-file-access-from-files", "--virtual-time-budget=600000"]
        + [f"--window-size={width},{HEIGHT}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=600,
        check=True,
    )
    return done.stdout


def wider(browser: str, width: int) -> list[str]:
    """The pages of the site that scroll sideways in a window of this width."""
    pages = [page.as_uri() for page in sorted(SITE.rglob("*.html")) if "_static" not in page.parts]
    script = MEASURE.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(width))
    with tempfile.NamedTemporaryFile("w", suffix=".html") as file:
        file.write(script)
        file.flush()
        dom = look(browser, max(WIDTHS), "--dump-dom", Path(file.name).as_uri())
    seen = re.search(rf'<pre id="wide">seen {len(pages)}\n(.*?)</pre>', dom, re.DOTALL)
    if seen is None:
        raise RuntimeError("the browser did not open all pages")
    return html.unescape(seen[1]).split("\n") if seen[1] else []


if __name__ == "__main__":
    sys.exit(main())
