# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shortest way from a copied disk to a guest that asks for a login; other servers are in test_p2v_fixup_machine.py."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from .copied_server import ADDRESS, CARD, MAC, Server, boot, copied, fix_up, proof

SERVER = Server(layout="ext4", small=True)


def test_a_copied_server_boots_as_a_guest(tmp_path: Path, record_property: Any) -> None:
    seconds, began = [], time.monotonic()

    def lap() -> None:
        seconds.append(round(time.monotonic() - began - sum(seconds)))

    (image,) = copied(SERVER, tmp_path)
    lap()
    told = fix_up(tmp_path, SERVER)
    lap()
    for words in (
        r"/etc/fstab: / is mounted by UUID=\S+, no longer by /dev/sda1",
        r"/boot/grub/grub.cfg: root=UUID=\S+, no longer root=/dev/sda1; resume=UUID=\S+, no longer resume=/dev/sda2; kernels have a",
        r"the card with %s is %s as before, with %s" % (MAC, CARD, ADDRESS),
        r"smartd.service is off \(health of disks\)",
    ):
        assert any(re.match(words, change) for change in told["fixup"]["changes"]), (words, told["fixup"]["changes"])
    said = boot([image.with_suffix(".vm.qcow2")], "bios")
    lap()
    print("seconds: disk, fix-up, boot", seconds)
    record_property("seconds", seconds)
    shown = proof(said)
    assert re.search(r"^old1 login: ", said, re.M), said[-3000:]
    assert any(re.match(r"%s +UP +%s" % (CARD, re.escape(ADDRESS)), line) for line in shown), shown
    assert any(re.match(r"/ +/dev/vda1", line) for line in shown) and "masked" in shown, shown
    image.unlink()
