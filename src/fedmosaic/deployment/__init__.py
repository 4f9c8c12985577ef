"""What a federation across machines is started with: keys, certificates, configuration and start scripts.

Nothing here trains or sends anything: it writes files that Flower's programs and this package read.
"""

from fedmosaic.deployment.certificates import new_authority, renew_server_certificate
from fedmosaic.deployment.folder import write_deployment
from fedmosaic.deployment.keys import new_node_key, read_public_key
from fedmosaic.deployment.plan import Plan
from fedmosaic.deployment.roster import Entry, Roster

__all__ = [
    "Entry",
    "Plan",
    "Roster",
    "new_authority",
    "new_node_key",
    "read_public_key",
    "renew_server_certificate",
    "write_deployment",
]
