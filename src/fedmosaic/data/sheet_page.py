"""Contact sheets as one HTML page that opens offline: images at their full size, questions as text."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from fedmosaic.data.benchmark import Benchmark
from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.data.sheet import evenly_spaced

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; color: #1c1c1c; margin: clamp(.8rem, 4vw, 2rem); overflow-wrap: anywhere; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
article { border-top: 1px solid #d5d5d5; padding-top: .6rem; }
img { height: 112px; max-width: 100%; object-fit: contain; border: 1px solid #d5d5d5; margin-right: 4px;
  image-rendering: pixelated; }
p { margin: .3rem 0; color: #6b6b6b; } b { color: #0a7d33; }
"""


def contact_page(benchmark: Benchmark, task_name: str, n: int = 12) -> str:
    """Return an HTML page with samples of a task, evenly spaced over its test split.

    Args:
        benchmark: where the task is.
        task_name: which task.
        n: at most how many samples.

    Raises:
        SettingsError: there is no such task.
        DataError: an image cannot be used.
    """
    task = benchmark.task(task_name)
    sizes = f"{len(task.train)} train, {len(task.validation)} validation, {len(task.test)} test samples"
    articles = "\n".join(_article(benchmark, sample) for sample in evenly_spaced(task.test, n))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(task.name)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(task.name)}</h1><p>{escape(task.family)}; {sizes}</p>"
        f"<main>\n{articles}\n</main></html>\n"
    )


def _article(benchmark: Benchmark, sample: Sample) -> str:
    images = "".join(_inline(benchmark.images.load(key), key) for key in sample.images)
    asked = escape(sample.prompt.replace(IMAGE_MARK, "[image]"))
    among = f"of: {', '.join(sample.options)}" if sample.options else "open"
    return f"<article>{images}<p>{asked}</p><p><b>{escape(sample.answer)}</b> ({escape(among)})</p></article>"


def _inline(image: Image.Image, key: str) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f'<img alt="{escape(key)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
