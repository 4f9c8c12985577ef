"""Images of any shape reach towers and processors in a shape that they take, without filling the memory."""

import pytest
from PIL import Image
from transformers import Qwen2VLImageProcessor, SiglipImageProcessor

from fedmosaic.models.pixels import fit_image, pad_to_square, to_square

GREY = (127, 127, 127)


class Processor:
    def __init__(self, image_processor):
        self.image_processor = image_processor


KEEPS_SHAPE, WANTS_SQUARES = Processor(Qwen2VLImageProcessor()), Processor(SiglipImageProcessor())


@pytest.mark.parametrize("size", [(16_384, 17), (17, 16_384), (900, 1)])
def test_long_strips_are_taken_by_processors_that_keep_the_shape(size):
    image = fit_image(Image.new("RGB", size, "red"), KEEPS_SHAPE)
    assert max(image.size) == max(size)  # nothing is lost
    assert max(image.size) <= 50 * min(image.size)
    red, grey = size[0] * size[1], image.width * image.height - size[0] * size[1]
    assert dict(map(reversed, image.getcolors(10**7))) == {(255, 0, 0): red, GREY: grey}
    KEEPS_SHAPE.image_processor(image.resize((image.width // 8 + 1, image.height // 8 + 1)), return_tensors="pt")


def test_ordinary_shapes_stay_as_they_are_where_the_shape_is_kept():
    for size in ((640, 480), (2000, 40), (5000, 4000)):
        assert fit_image(Image.new("RGB", size), KEEPS_SHAPE).size == size
    assert fit_image(Image.new("RGB", (640, 480)), WANTS_SQUARES).size == (640, 640)


@pytest.mark.parametrize("size", [(16_384, 17), (17, 16_384)])
def test_squares_of_long_strips_are_small_and_show_the_strip_in_the_middle(size):
    image = pad_to_square(Image.new("RGB", size, "red"))
    assert image.size == (2048, 2048)
    assert image.getpixel((1024, 1024)) == (255, 0, 0)
    assert image.getpixel((0, 0)) == GREY
    assert to_square(Image.new("RGB", size, "red")).size == (128, 128)


def test_squares_and_smaller_images_keep_their_pixels():
    assert pad_to_square(Image.new("RGB", (3000, 3000))).size == (3000, 3000)
    assert pad_to_square(Image.new("RGB", (2048, 10), "red")).getcolors(10**7) == [
        (2048 * 2038, GREY),
        (2048 * 10, (255, 0, 0)),
    ]
