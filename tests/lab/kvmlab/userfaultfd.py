"""QEMU in a host may fetch pages by itself, as post-copy needs: for as long as a lab asks for it, and no wider than it must.

libvirt 10.1 and newer opens /dev/userfaultfd for QEMU, so those hosts get a node of their own. Older ones need a setting
of the outer kernel; it is given back as it was when the last lab that asked for it lets go.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kvmlab.errors import LabError
from kvmlab.inside import inside
from kvmlab.paths import LOCKS, STATE
from kvmlab.run import locked, run, say
from kvmlab.state import LabRecord, all_names

DEVICE = Path("/dev/userfaultfd")
SETTING = Path("/proc/sys/vm/unprivileged_userfaultfd")
# Gone with a reboot, as the setting is.
RECORD = LOCKS / "userfaultfd.json"
BY_DEVICE = ("trixie",)


def allow(lab: LabRecord) -> None:
    """In every host of the lab."""
    by_setting = []
    for host in lab.shape.hosts:
        if host.release in BY_DEVICE and DEVICE.exists():
            number = DEVICE.stat().st_rdev
            script = f"test -c {DEVICE} || mknod -m 600 {DEVICE} c {os.major(number)} {os.minor(number)}"
            run(inside(lab, host.name, ["sh", "-c", script]))
        else:
            by_setting.append(host.name)
    if by_setting:
        _ask(lab.name)
    say(f"QEMU may use userfaultfd in lab {lab.name}; undo: tests/lab/lab userfaultfd forbid{lab.flag}")


def forbid(lab: LabRecord) -> None:
    """As it was before."""
    for host in lab.shape.hosts:
        run(inside(lab, host.name, ["rm", "-f", str(DEVICE)]))
    let_go(lab.name)


def _ask(name: str) -> None:
    with locked(RECORD.with_suffix(".lock"), "is changing userfaultfd"):
        if not SETTING.exists():
            raise LabError(
                "this kernel has no vm.unprivileged_userfaultfd", "post-copy to bookworm cannot be tried here"
            )
        record = _read() or {"before": SETTING.read_text().strip(), "labs": []}
        record["labs"] = sorted({*record["labs"], name})
        RECORD.write_text(json.dumps(record))
        SETTING.write_text("1")


def let_go(name: str) -> None:
    """Drop what this lab asked for. Labs that are gone without a trace ask for nothing."""
    with locked(RECORD.with_suffix(".lock"), "is changing userfaultfd"):
        record = _read()
        if record is None:
            return
        record["labs"] = [other for other in record["labs"] if other != name and other in all_names(STATE)]
        if record["labs"]:
            RECORD.write_text(json.dumps(record))
            return
        SETTING.write_text(record["before"])
        RECORD.unlink()


def is_asked_by(name: str) -> bool:
    """Whether the lab still has its hand on the setting."""
    return name in (_read() or {"labs": []})["labs"]


def _read() -> dict[str, Any] | None:
    return dict(json.loads(RECORD.read_text())) if RECORD.exists() else None
