"""Opens pages in a headless Chromium and measures where their texts stand."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_MEASURE = """
<script>
const shown = (rect, element) => {  // what of a text is not scrolled or cut away
  let {left, right, top, bottom} = rect;
  for (let each = element; each && each !== element.ownerDocument.documentElement; each = each.parentElement) {
    const style = each.ownerDocument.defaultView.getComputedStyle(each);
    if (each instanceof each.ownerDocument.defaultView.SVGElement || style.overflowX === "visible") continue;
    const box = each.getBoundingClientRect();
    [left, right] = [Math.max(left, box.left), Math.min(right, box.right)];
    [top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)];
  }
  return {left, right, top, bottom};
};
const measure = (page) => {
  const found = [], boxes = [], root = page.documentElement, view = page.defaultView;
  if (root.scrollWidth > root.clientWidth + 1) found.push(`wider than the window: ${root.scrollWidth}`);
  const hidden = [...page.querySelectorAll(".scroll")].filter((each) => each.scrollWidth > each.clientWidth + 1);
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT), range = page.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, text = node.textContent.trim();
    if (!text || element.closest("script, style, title") || !element.checkVisibility()) continue;
    range.selectNodeContents(node);
    const chart = element.closest("svg");
    for (const rect of range.getClientRects()) {
      const box = shown(rect, element);
      if (chart) {
        const frame = chart.getBoundingClientRect();
        if (rect.left < frame.left - 1 || rect.right > frame.right + 1 || rect.bottom > frame.bottom + 1)
          found.push(`cut off in a chart: ${text}`);
      }
      if (box.right - box.left > 1 && box.bottom - box.top > 1) boxes.push({...box, text, node});
    }
  }
  boxes.sort((a, b) => a.top - b.top);
  boxes.forEach((a, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].top < a.bottom - 4; j++) {
      const b = boxes[j];
      if (a.node !== b.node && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2)
        found.push(`overlap: ${a.text} | ${b.text}`);
    }
  });
  const scrolled = hidden.map((each) => each.textContent.trim().slice(0, 60));
  return {texts: boxes.length, problems: found, scrolled, title: page.title};
};
addEventListener("load", () => {
  const all = {};
  for (const frame of document.querySelectorAll("iframe")) all[frame.id] = measure(frame.contentDocument);
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify(all);
});
</script>
"""


def layout(pages: Mapping[str, Path], folder: Path, *, widths: tuple[int, ...]) -> dict[str, dict]:
    """Return ``texts``, ``problems``, ``scrolled`` tables, ``title`` of each page at each width, by ``name-width``."""
    frames = "".join(
        f'<iframe id="{name}-{width}" width="{width}" height="900" srcdoc="{html.escape(path.read_text())}"></iframe>'
        for name, path in pages.items()
        for width in widths
    )
    (folder / "all.html").write_text(f"<!doctype html><meta charset=utf-8>{frames}{_MEASURE}", encoding="utf-8")
    dumped = chromium(folder, "--dump-dom", "--virtual-time-budget=20000", (folder / "all.html").as_uri())
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)[1]))


def chromium(folder: Path, *arguments: str) -> str:
    """Return what a headless browser prints; its profile is thrown away with the folder."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=300)
    return done.stdout
