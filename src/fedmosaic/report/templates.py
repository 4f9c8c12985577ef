"""The pages' templates; whatever is put into them is escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedmosaic.report import text


def templates() -> Environment:
    """Return the environment that knows the package's templates and filters."""
    environment = Environment(
        loader=PackageLoader("fedmosaic.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": text.percent, "points": text.points, "direction": text.direction}
    return environment
