"""``python -m fedmosaic.federation.supernode``: Flower's ``flower-supernode``, same options, mended in one point.

A SuperNode takes no message before it has an answer to the last one. Where the process that was to give it is stopped,
or killed before it has taken the message, Flower's waits for ever, for this run and all later ones; ours answers that
the app has crashed.
"""

from fedmosaic.federation import flower

if __name__ == "__main__":
    flower.supernode()
