"""The Flower apps, the wire between them, the folders they keep, and the engines they run on."""

from fedmosaic.federation.division import divided
from fedmosaic.federation.machine import Machine
from fedmosaic.federation.run_folder import RunFolder

__all__ = ["Machine", "RunFolder", "divided"]
