#!/usr/bin/env python3
"""Opens reports of `sottoc report` in headless Chromium and uses them: no word on the console, no request, drawn within three seconds.

    pip install playwright        # a Chromium on the PATH, or one of `playwright install chromium`
    tests/report/look.py report.html [more.html …] [--shots DIR]
"""

import argparse
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

SECTIONS = ["levels", "time", "ranges", "memory", "keys", "choices", "sites", "plan"]
SECONDS = 3.0


def use(page):
    """Does what a reader does; returns what is missing."""
    missing = [s for s in SECTIONS if not page.locator(f"#{s}").inner_text().strip()]
    for table in ["ranges-table", "keys-table", "sites-table", "memory-parts"]:
        if page.locator(f"#{table} tbody tr").count() == 0:
            missing.append(f"rows of {table}")
    for chart in ["course", "detail", "alive"]:
        drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x)"
        if not page.locator(f"#{chart}").evaluate(drawn):
            missing.append(f"drawing of {chart}")
    page.locator("#course").focus()
    for key in ["ArrowRight", "ArrowRight", "ArrowLeft", "Enter"]:
        page.keyboard.press(key)
    if "operation 0" not in page.locator("#course-said").inner_text():
        missing.append("words about an operation")
    page.locator("#course").hover(position={"x": 200, "y": 100})
    for group in ["axis", "measure", "programs"]:
        for button in page.locator(f"#{group} button").all():
            button.click()
    page.locator("#detail-table summary").click()
    options = page.locator("#template option").count()
    page.locator("#template").select_option(str(options - 1))
    if page.locator("#detail-table tbody tr").count() == 0:
        missing.append("a template's operations")
    page.locator("#ranges-find").fill("norm")
    for button in page.locator("#keys-table thead button").all():
        button.click()
    return missing


def look(browser, path, shots):
    """What is wrong with one report."""
    wrong = []
    for scheme in ["light", "dark"]:
        page = browser.new_page(viewport={"width": 1180, "height": 1400}, color_scheme=scheme)
        page.on("console", lambda said: wrong.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(f"request: {r.url}"))
        page.goto(path.resolve().as_uri())
        took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
        print(f"{path} ({scheme}): drawn after {took:.2f} s, {path.stat().st_size >> 10} KiB")
        if took > SECONDS:
            wrong.append(f"drawn after {took:.2f} s, more than {SECONDS}")
        if shots:
            page.screenshot(path=str(shots / f"{path.stem}-{scheme}.png"))
            page.screenshot(path=str(shots / f"{path.stem}-{scheme}-whole.png"), full_page=True)
        wrong += [f"missing: {what}" for what in use(page)]
        page.close()
    return wrong


def main():
    """Exit code 1 if anything is wrong."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("reports", nargs="+", type=pathlib.Path)
    arguments.add_argument("--shots", type=pathlib.Path, help="a folder for screenshots")
    given = arguments.parse_args()
    if given.shots:
        given.shots.mkdir(parents=True, exist_ok=True)
    failed = False
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for path in given.reports:
            for line in look(browser, path, given.shots):
                failed = True
                print(f"{path}: {line}", file=sys.stderr)
        browser.close()
    sys.exit(failed)


if __name__ == "__main__":
    main()
