"""``fedmosaic ask``: put a question to a client's final model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from fedmosaic.cli.console import PlainConsole
from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.errors import SettingsError


def ask(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    question: Annotated[str, typer.Argument(help="May say where each image stands with an <image> mark.")],
    client: Annotated[int, typer.Option(help="Id of the client whose model answers.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image file; several in the order of their marks.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 32,
) -> None:
    """Print the answer of a client's final model to a question about images."""
    paths = image or []
    prompt = _prompt(question, len(paths))

    from fedmosaic.cli.finished import finished_run
    from fedmosaic.data.images import GivenImages, read_image
    from fedmosaic.federation.final_model import answering

    for path in paths:
        read_image(path)
    with TemporaryDirectory() as cache:  # whatever was asked about leaves no trace in the user's cache
        runtime, _ = finished_run(run, images=GivenImages(paths), cache=Path(cache))
        keys = tuple(GivenImages(paths).keys())
        sample = Sample("question", keys, prompt, answer="?")
        with answering(runtime, client) as model:
            (answer,) = model.answer([sample], max_tokens=max_tokens)
    PlainConsole().say(answer)


def _prompt(question: str, images: int) -> str:
    """Return the question with one mark per image, put in front where it has none.

    Raises:
        SettingsError: the question is empty, or its marks are not as many as the images.
    """
    if not question.strip():
        raise SettingsError("the question is empty; expected a text such as 'what is this ?'")
    marks = question.count(IMAGE_MARK)
    if marks not in (0, images):
        raise SettingsError(
            f"the question has {marks} {IMAGE_MARK} mark(s) but --image is given {images} time(s); "
            "give one image per mark, or leave the marks out to have all images in front"
        )
    return question if marks else f"{IMAGE_MARK} " * images + question
