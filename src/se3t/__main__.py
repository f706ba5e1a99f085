"""``python -m se3t`` is the command ``se3t``."""

import sys

from se3t.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
