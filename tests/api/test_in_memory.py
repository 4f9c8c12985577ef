"""Tasks and pictures as objects."""

import pytest
from PIL import Image

from fedmosaic.data.in_memory import InMemoryBenchmark, InMemoryImages
from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import DataError, SettingsError


def task(name="one", images=("a",), ids=("1", "2", "3")):
    samples = [Sample(each, images, "<image> " * len(images) + "what ?", "this") for each in ids]
    return Task(name, "own", samples, (), samples)


def grey(level=100, mode="L", size=(4, 3)):
    return Image.new(mode, size, level)


def test_it_is_a_benchmark_of_the_given_tasks():
    benchmark = InMemoryBenchmark(
        [task("one"), task("two"), task("three")], images={"a": grey()}, trained=["one"], public="three"
    )
    assert benchmark.task_names() == ["one"]
    assert benchmark.unseen_names() == ["two"]
    assert isinstance(benchmark.task("two").train, tuple)
    drawn = benchmark.public(2, seed=5)
    assert list(drawn) == list(benchmark.public(2, seed=5))
    assert len({sample.id for sample in drawn}) == 2
    with pytest.raises(SettingsError, match="has 3 public samples; this method asks for 4"):
        benchmark.public(4, seed=0)


def test_pictures_come_as_rgb_and_are_known_by_their_pixels(tmp_path):
    grey(100, "L").save(tmp_path / "same.png")
    images = InMemoryImages({"a": grey(100, "L"), "b": tmp_path / "same.png", "c": grey(101, "L")})
    assert images.load("a").mode == "RGB"
    assert images.digest("a") == images.digest("b") != images.digest("c")
    clear = InMemoryImages({"x": Image.new("RGBA", (2, 2), (0, 0, 0, 0))})
    assert clear.load("x").getpixel((0, 0)) == (255, 255, 255)
    assert images.add(grey(7)) == "3"
    assert images.load("3").getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: InMemoryBenchmark([task(), task()], images={"a": grey()}), DataError, "two tasks are called 'one'"),
        (lambda: InMemoryBenchmark([task()]), DataError, "sample '1': no image was given for the key 'a'"),
        (lambda: InMemoryBenchmark([task(ids="xx")], images={"a": grey()}), DataError, "have the id 'x'"),
        (lambda: InMemoryBenchmark([task()], images={"a": grey()}, trained=["onn"]), SettingsError, "did you mean one"),
        (lambda: InMemoryBenchmark([task()], images={"a": grey()}).public(1, 0), SettingsError, "no task is public"),
        (lambda: InMemoryImages({}).load("k"), DataError, "no image was given for the key"),
        (lambda: InMemoryImages({"k": 3}).load("k"), DataError, "is a int; expected a PIL image or the path"),
        (lambda: InMemoryImages({"k": grey(0, "F")}).load("k"), DataError, "no agreed"),
        (lambda: InMemoryImages({"k": grey(size=(5000, 1))}).load("k"), DataError, "5000 x 1 pixels"),
    ],
)
def test_what_cannot_be_used_is_named(make, error, said):
    with pytest.raises(error, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
