"""The Flower apps, the wire between them, the folders they keep, and the engines they run on."""

from fedmosaic.federation.division import divided
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime

__all__ = ["RunFolder", "Runtime", "divided"]
