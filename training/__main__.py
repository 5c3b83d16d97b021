"""`python -m training`: the command `valence-train`."""

import sys

from training.cli import main

if __name__ == "__main__":
    sys.exit(main())
