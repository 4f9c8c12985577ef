"""What the command line and ``import fedmosaic`` share: starting, opening and comparing runs."""
