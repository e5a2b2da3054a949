"""Make docs/images/comparison.png anew: the upper part of a comparison's page, as a browser shows it.

    python scripts/capture_comparison.py [PAGE.html] [--browser PATH] [--height PIXELS]

Needs a Chromium or Chrome (Debian's package `chromium`), which draws the page without a window, and Pillow, which makes
the picture smaller. Nothing else depends on either.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "comparison" / "ssb-rtx-2080-ti.html"
PICTURE = ROOT / "docs" / "images" / "comparison.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 1200


def capture(browser: str, page: Path, height: int, picture: Path) -> None:
    """Draw the first ``height`` pixels of a page into a PNG of 128 colours.

    Raises subprocess.CalledProcessError where the browser fails.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "page.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={drawn}"]
        options += [f"--window-size={WIDTH},{height}", f"--user-data-dir={folder}/profile"]
        subprocess.run([browser, *options, page.resolve().as_uri()], check=True, capture_output=True, timeout=120)
        with Image.open(drawn) as image:
            image.convert("RGB").quantize(128).save(picture, optimize=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Make a picture of a comparison's page.")
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    parser.add_argument("--browser", help="the browser's program; by default the first that is found")
    parser.add_argument("--height", type=int, default=2195, help="pixels of the page, from its top")
    options = parser.parse_args()
    browser = options.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"There is none of {', '.join(BROWSERS)}: install one, or name it by --browser", file=sys.stderr)
        return 2
    capture(browser, options.page, options.height, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
