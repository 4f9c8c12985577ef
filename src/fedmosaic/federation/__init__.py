"""The Flower apps, the wire between them, the folders they keep, and the engines they run on."""

from fedmosaic.federation.assets import Assets
from fedmosaic.federation.division import divided
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import ClientRuntime

__all__ = ["Assets", "ClientRuntime", "RunFolder", "divided"]
