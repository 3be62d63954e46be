"""python -m kvmlab.launch CGROUP… -- COMMAND…: enter control groups, then become the command.

A host's processes must be in a control group of their own from the first one on: systemd in two hosts that share
one would manage each other's services.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(argv: list[str]) -> None:
    """Enter the groups and exec."""
    split = argv.index("--")
    for group in argv[:split]:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
    command = argv[split + 1 :]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
