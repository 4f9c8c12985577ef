"""``python -m fedmosaic``."""

from fedmosaic.cli import main

if __name__ == "__main__":
    main()
