"""``python -m vledge`` is the command line."""

import sys

from vledge.cli import main

if __name__ == "__main__":
    sys.exit(main())
