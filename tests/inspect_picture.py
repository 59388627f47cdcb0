"""Takes the picture of `/inspect` for the docs from a running server, with Chromium and playwright:
`python tests/inspect_picture.py http://127.0.0.1:8000/inspect docs/figures/inspect.png`."""

import sys
from importlib import import_module
from io import BytesIO
from shutil import which

from PIL import Image

PROMPT = '''class Configuration:
    """Reads settings from a file."""

    def __init__(self, path):
        self._path = path
        self._values = {}

    def read(self):
'''
SETTINGS = {"prompt": PROMPT, "max_tokens": "96", "seed": "3"}
STEP = 11
NUM_COLOURS = 224  # half the size of all of them


def take(address: str) -> Image.Image:
    """The whole page in a window 1280 wide, at one of the steps."""
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(address)
        for field, value in SETTINGS.items():
            page.fill(f"#{field}", value)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#status:has-text('tokens in')", timeout=300_000)
        page.locator("h1").click()
        page.keyboard.press("Home")
        for _ in range(STEP - 1):
            page.keyboard.press("ArrowRight")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        picture = Image.open(BytesIO(page.screenshot(full_page=True)))
        browser.close()
    return picture


if __name__ == "__main__":
    _, address, path = sys.argv
    take(address).convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
