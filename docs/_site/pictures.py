"""The pictures of the concepts: ``python docs/_site/pictures.py`` writes them into ``docs/pictures``.

They have a ground of their own, so they can be read on light and on dark pages; what differs has other words and
another frame, not only another colour. They are narrow, so that a phone shows their text in a size that can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

WIDTH = 480
INK, SOFT, UP, DOWN = "#1d2b33", "#4d5a60", "#0b5c82", "#8f4208"
FROZEN = {"fill": "#e9ecee", "stroke": "#5b7785", "stroke-dasharray": "5 4"}
OWN = {"fill": "#d8eaf4", "stroke": UP}
RECEIVED = {"fill": "#f8e3d2", "stroke": DOWN, "stroke-width": "3"}
PLAIN = {"fill": "#ffffff", "stroke": "#7a8288"}


def text(
    x: float, y: float, words: str, *, size: int = 15, fill: str = INK, anchor: str = "middle", bold: bool = False
) -> str:
    """Words on one line, at the baseline y."""
    weight = ' font-weight="600"' if bold else ""
    style = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, style: dict[str, str], *lines: str) -> str:
    """A frame with lines of words in its middle."""
    drawn = " ".join(f'{key}="{value}"' for key, value in style.items())
    first = y + height / 2 - 9 * (len(lines) - 1) + 5
    words = [
        text(x + width / 2, first + 18 * row, line, size=15 if row == 0 else 13, fill=INK if row == 0 else SOFT)
        for row, line in enumerate(lines)
    ]
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" {drawn}/>' + "".join(words)


def arrow(*points: tuple[float, float], colour: str = INK, dashed: bool = False) -> str:
    """A line with a head at its end."""
    path = " L ".join(f"{x:g} {y:g}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    head = {INK: "ink", UP: "up", DOWN: "down"}[colour]
    return f'<path d="M {path}" fill="none" stroke="{colour}" stroke-width="2"{dash} marker-end="url(#{head})"/>'


def picture(title: str, height: int, *parts: str) -> str:
    """A whole picture; its title is read to those who do not see it."""
    heads = "".join(
        f'<marker id="{name}" markerWidth="9" markerHeight="9" refX="7" refY="4.5" orient="auto">'
        f'<path d="M0 0 L9 4.5 L0 9 z" fill="{colour}"/></marker>'
        for name, colour in {"ink": INK, "up": UP, "down": DOWN}.items()
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img">\n<title>{escape(title)}</title>\n<defs>{heads}</defs>\n'
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#fbfbf9"/>\n{body}\n</svg>\n'
    )


def client() -> str:
    """What a client has, and what crosses to the server."""
    return picture(
        "A client keeps data and models, uploads a slot and a sketch, and receives a mixture",
        352,
        box(20, 18, 440, 56, PLAIN, "server", "weighs the clients by relevance, mixes for each"),
        arrow((150, 138), (150, 80), colour=UP),
        text(162, 104, "up: own slot", anchor="start", fill=UP, size=14),
        text(162, 123, "and a sketch", anchor="start", fill=UP, size=14),
        arrow((318, 80), (318, 138), colour=DOWN, dashed=True),
        text(330, 104, "down: the others'", anchor="start", fill=DOWN, size=14),
        text(330, 123, "slots, mixed", anchor="start", fill=DOWN, size=14),
        box(20, 144, 440, 192, PLAIN),
        text(36, 168, "client: one organisation", anchor="start", bold=True),
        box(36, 184, 128, 136, FROZEN, "base model", "any family", "frozen"),
        box(176, 184, 128, 60, OWN, "own slot", "trained here"),
        box(176, 260, 128, 60, RECEIVED, "received slot", "not trained here"),
        box(316, 184, 128, 60, PLAIN, "gate", "how much of each"),
        box(316, 260, 128, 60, PLAIN, "tasks, samples", "never leave"),
    )


def slot() -> str:
    """An adapted linear layer."""
    return picture(
        "An adapted linear adds the frozen product, the own slot times 1 - g and the received slot times g",
        322,
        text(240, 28, "one linear of the decoder", bold=True),
        box(20, 132, 60, 50, PLAIN, "x"),
        *(arrow((84, 157), (128, y)) for y in (72, 157, 242)),
        box(134, 46, 150, 52, FROZEN, "W x", "base model, frozen"),
        box(134, 131, 150, 52, OWN, "B (P A x + Q)", "own slot"),
        box(134, 216, 150, 52, RECEIVED, "B (P' A x + Q')", "received slot"),
        text(322, 152, "times", size=14),
        text(322, 170, "1 − g", size=15, bold=True),
        text(322, 237, "times", size=14),
        text(322, 255, "g", size=15, bold=True),
        arrow((288, 72), (414, 134)),
        arrow((348, 157), (404, 157)),
        arrow((348, 242), (414, 180)),
        box(410, 132, 50, 50, PLAIN, "sum"),
        text(240, 300, "g: the gate, learned for each linear; A and B: alike in meaning for all", size=13, fill=SOFT),
    )


_COSINES = (("1", ".8", ".1"), (".8", "1", ".2"), (".1", ".2", "1"))
_TASKS = ("which differs", "odd one out", "count things")


def relevance() -> str:
    """From sketches to weights: softmax of cosines at temperature 0.5 over the others."""
    return picture(
        "Cosines of the clients' sketches become weights with which the others' slots are mixed for each client",
        406,
        text(240, 28, "each client sends a sketch of its task", bold=True),
        *(box(20 + 150 * at, 42, 140, 50, OWN, f"client {at}", task) for at, task in enumerate(_TASKS)),
        *(arrow((90 + 150 * at, 94), (90 + 150 * at, 118), colour=UP) for at in range(3)),
        text(150, 142, "how alike? (cosine)", bold=True),
        *_grid(62, 156, _COSINES),
        arrow((244, 178), (268, 178)),
        text(374, 142, "weight of others", bold=True),
        *_grid(290, 156, (("–", ".8", ".2"), (".77", "–", ".23"), (".45", ".55", "–"))),
        arrow((374, 296), (374, 324), colour=DOWN, dashed=True),
        box(20, 330, 440, 60, RECEIVED, "client 0 receives", ".8 × slot of client 1 + .2 × slot of client 2"),
    )


def _grid(x: float, y: float, rows: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    for at, row in enumerate(rows):
        yield text(x - 8, y + 46 * at + 28, str(at), size=13, fill=SOFT, anchor="end")
        for to, number in enumerate(row):
            share = 0.0 if number == "–" else float(number)
            shade = f"rgb({255 - 70 * share:.0f},{255 - 40 * share:.0f},{255 - 20 * share:.0f})"
            yield box(x + 58 * to, y + 46 * at, 54, 42, {"fill": shade, "stroke": "#7a8288"}, number)


def tower_adapter() -> str:
    """The site that clients share behind unlike decoders."""
    rows = []
    for at, name in enumerate(("client 0", "client 1")):
        y = 40 + 172 * at
        rows += [
            text(20, y, name, anchor="start", bold=True),
            box(20, y + 12, 92, 62, PLAIN, "picture"),
            arrow((114, y + 43), (136, y + 43)),
            box(142, y + 12, 142, 62, FROZEN, "vision tower", "the same, frozen"),
            arrow((286, y + 43), (308, y + 43)),
            box(314, y + 12, 146, 62, OWN, "tower adapter", "z + Aᵀ (P A z + Q)"),
        ]
    return picture(
        "Two clients with one vision tower and unlike decoders exchange P and Q of the tower adapter",
        398,
        *rows,
        arrow((344, 118), (344, 222), colour=UP),
        arrow((430, 222), (430, 118), colour=DOWN, dashed=True),
        text(387, 160, "P and Q", size=14),
        text(387, 178, "cross", size=14),
        text(130, 152, "A: the same for both,", size=14, fill=SOFT),
        text(130, 171, "so P and Q mean the same", size=14, fill=SOFT),
        arrow((387, 290), (387, 322)),
        box(
            20,
            328,
            440,
            54,
            PLAIN,
            "then each client's own projector and decoder",
            "Llama here, Qwen2 there: nothing of them must agree",
        ),
    )


def proxy_model() -> str:
    """Two models that answer together, one of which all clients share."""
    return picture(
        "A client answers with its own model and the proxy; the proxies of all clients are averaged by the server",
        372,
        box(20, 18, 440, 52, PLAIN, "server", "the mean of all proxies, or a mixture by relevance"),
        arrow((300, 134), (300, 76), colour=UP),
        arrow((400, 76), (400, 134), colour=DOWN, dashed=True),
        text(288, 110, "up: what the proxy learned", anchor="end", fill=UP, size=14),
        text(412, 110, "down", anchor="start", fill=DOWN, size=14),
        box(20, 140, 440, 216, PLAIN),
        text(36, 164, "client", anchor="start", bold=True),
        box(36, 180, 196, 68, OWN, "own model", "any family, any size;", "stays here"),
        box(248, 180, 196, 68, RECEIVED, "proxy", "small, the same for all;", "crosses"),
        arrow((134, 252), (200, 286)),
        arrow((346, 252), (280, 286)),
        box(90, 292, 300, 50, PLAIN, "both likelihoods, multiplied", "one answer"),
    )


PICTURES = {
    "client": client,
    "slot": slot,
    "relevance": relevance,
    "tower-adapter": tower_adapter,
    "proxy-model": proxy_model,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parents[1] / "pictures" / f"{name}.svg").write_text(draw(), encoding="utf-8")
