"""Time of one training step beside the reference kernel and a peer: ``python benchmarks/step.py --help``."""

import sys

from se3t.bench.step import main

if __name__ == "__main__":
    sys.exit(main())
