import re

from fedmosaic.report.layers import LayerPair, write_layers


def test_the_page_shows_every_value_and_frames_the_most_similar_layers(tmp_path):
    pairs = [
        LayerPair("a<b>", "c", [[0.91, 0.2, 0.3], [0.1, 0.25, 0.72]], 0.125),
        LayerPair("c", "d", [[0.5]], 0.0),
    ]
    page = write_layers(pairs, samples=40, path=tmp_path / "new" / "cka.html").read_text(encoding="utf-8")
    cells = re.findall(r'<td class="(.*?)" style="--level:(\d+)%">(.*?)</td>', page)
    assert [(css.split(), level, value) for css, level, value in cells] == [
        (["dark", "best"], "91", "0.91"), ([], "20", "0.20"), ([], "30", "0.30"),
        ([], "10", "0.10"), ([], "25", "0.25"), (["dark", "best"], "72", "0.72"),
        (["best"], "50", "0.50"),
    ]  # fmt: skip
    assert "a&lt;b&gt;" in page
    assert "a<b>" not in page
    assert "40 public samples" in " ".join(page.split())
    assert "0.12" in page
    assert "<script" not in page
