"""Contact sheets: the images of a task's samples, with questions, options and answers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fedmosaic.data.benchmark import Benchmark
from fedmosaic.data.sample import IMAGE_MARK, Sample

_SIDE = 112  # pixels of one shown image
_PAD = 10
_LINE = 16
_COLUMNS = 2
_WIDTH = 5 * (_SIDE + 6) + 2 * _PAD
_INK, _SOFT, _RIGHT = "#1c1c1c", "#6b6b6b", "#0a7d33"


def contact_sheet(
    benchmark: Benchmark, task_name: str, n: int = 12, *, samples: Sequence[Sample] | None = None
) -> Image.Image:
    """Draw samples of a task, evenly spaced over its test split.

    Args:
        benchmark: where the task is.
        task_name: which task.
        n: at most how many samples.
        samples: these instead.

    Returns:
        An RGB image, two samples beside each other.

    Raises:
        SettingsError: there is no such task.
        DataError: an image cannot be used.
    """
    task = benchmark.task(task_name)
    cells = [_cell(benchmark, sample) for sample in (evenly_spaced(task.test, n) if samples is None else samples)]
    rows = [cells[i : i + _COLUMNS] for i in range(0, len(cells), _COLUMNS)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (_WIDTH * _COLUMNS, 40 + sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    sizes = f"{len(task.train)} train, {len(task.validation)} validation, {len(task.test)} test"
    pen.text((_PAD, 10), f"{task.name}  ({task.family}; {sizes})", fill=_INK, font=_font(18))
    top = 40
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (column * _WIDTH, top))
        top += height
    return sheet


def below_each_other(sheets: Sequence[Image.Image]) -> Image.Image:
    """Return sheets of several tasks as one image.

    Args:
        sheets: at least one, all of the same width.
    """
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def evenly_spaced(samples: Sequence[Sample], n: int) -> Sequence[Sample]:
    """Return at most ``n`` samples, evenly spaced.

    Args:
        samples: to choose from.
        n: the largest number.
    """
    return samples[:: max(1, len(samples) // n)][:n]


def _cell(benchmark: Benchmark, sample: Sample) -> Image.Image:
    asked = sample.prompt.replace(IMAGE_MARK, "[image]").splitlines()
    lines = [part for line in asked for part in textwrap.wrap(line, 88)]
    images = [benchmark.images.load(key) for key in sample.images]
    rows = -(-len(images) // 5)
    height = rows * (_SIDE + 6) + (len(lines) + 1) * _LINE + 3 * _PAD
    cell = Image.new("RGB", (_WIDTH, height), "white")
    pen = ImageDraw.Draw(cell)
    pen.line((_PAD, 0, _WIDTH - _PAD, 0), fill="#d5d5d5")
    for i, image in enumerate(images):
        _paste(cell, image, (_PAD + i % 5 * (_SIDE + 6), _PAD + i // 5 * (_SIDE + 6)))
    _write(pen, lines, sample, top=_PAD + rows * (_SIDE + 6))
    return cell


def _paste(cell: Image.Image, image: Image.Image, corner: tuple[int, int]) -> None:
    scale = _SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    cell.paste(image.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS), corner)
    ImageDraw.Draw(cell).rectangle((*corner, corner[0] + _SIDE, corner[1] + _SIDE), outline="#d5d5d5")


def _write(pen: ImageDraw.ImageDraw, lines: Sequence[str], sample: Sample, *, top: int) -> None:
    for line in lines:
        pen.text((_PAD, top), line, fill=_SOFT, font=_font(13))
        top += _LINE
    among = f"   of: {', '.join(sample.options)}" if sample.options else "   (open)"
    pen.text((_PAD, top), f"{sample.answer}{among}", fill=_RIGHT, font=_font(13))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
