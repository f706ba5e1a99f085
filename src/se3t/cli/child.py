"""``python -m se3t.cli.child <arguments>`` is ``se3t <arguments>`` for as long as the process that started it lives.

``SE3T_PARENT`` names that process. Where the system offers it (Linux), the end of the parent, however it comes, ends
this process too; so that no training outlives its command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def end_with_parent() -> None:
    """Ask for SIGKILL at the end of the parent: what a training writes is whole whenever it is killed."""
    parent = os.environ.pop("SE3T_PARENT", "")
    if sys.platform != "linux" or not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL))
    if os.getppid() != int(parent):  # it ended before the line above
        sys.exit(1)


if __name__ == "__main__":
    end_with_parent()
    from se3t.cli.main import main

    sys.argv[0] = "se3t"  # the run record quotes the command
    sys.exit(main())
