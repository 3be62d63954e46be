# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who competes. Each is data: what one types on the machine, or the options of kvm_p2v_image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional

DD, ZSTD, NBD, FIRST, SECOND, BUSY, SATURATED = "dd", "zstd", "nbd", "first", "second", "busy", "saturated"
BASELINES = (DD, ZSTD, NBD)
# What tc's rate leaves for data, in MiB/s: headers of TCP and IP taken off.
LINK, LINK_MIB_S = "200mbit", 22.8


@dataclass(frozen=True)
class Contender:
    """typed: a shell line for the source; {disk}, {ssh} (the command that logs in to the receiver), {image} (its file there) and
    {socket} (of an NBD server on an empty qcow2 there, forwarded) are filled in. nbd: it needs that server.
    ours: options of kvm_p2v_image. kept: the image of the run before is there. changed_percent: of the files, since then.
    writer_mib_s: what a program on the source writes meanwhile, each write with fsync; 0: as fast as it can.
    writer_set_mib: to a file of that size.
    """

    title: str
    typed: Optional[str] = None
    nbd: bool = False
    ours: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False
    changed_percent: float = 0
    writer_mib_s: Optional[float] = None
    writer_set_mib: int = 64
    why: str = ""


CONTENDERS: Dict[str, Contender] = {
    DD: Contender(
        "`dd \\| ssh`",
        typed="dd if={disk} bs=1M status=none | {ssh} 'dd of={image} bs=1M conv=sparse,fsync status=none'",
        why="The whole disk, as it is.",
    ),
    ZSTD: Contender(
        "`dd \\| zstd \\| ssh`",
        typed="dd if={disk} bs=1M status=none | zstd -q -1 -c | {ssh} 'zstd -q -dc | dd of={image} bs=1M conv=sparse,fsync"
        " status=none'",
        why="The same, compressed. What was deleted is sent as well.",
    ),
    NBD: Contender(
        "`qemu-img convert` over NBD",
        typed="qemu-img convert -n --target-is-zero -t writeback -f raw -O raw {disk} 'nbd+unix:///?socket={socket}'",
        nbd=True,
        why="qemu-img reads on the source and leaves zeros out; the NBD server is on the receiver, over ssh like the others.",
    ),
    FIRST: Contender("`kvm_p2v_image`, first image", why="Used blocks only, compressed, verified. Nobody writes."),
    SECOND: Contender(
        "`kvm_p2v_image`, second image",
        kept=True,
        changed_percent=2,
        why="Over the first one, 2 % of the files' bytes changed.",
    ),
    BUSY: Contender(
        "`kvm_p2v_image`, a source that writes 5 % of the link",
        writer_mib_s=round(0.05 * LINK_MIB_S, 2),
        why="Random pieces of 16 KiB of a file of 64 MiB, an fsync for each.",
    ),
    SATURATED: Contender(
        "`kvm_p2v_image`, a source that writes as fast as it can",
        writer_mib_s=0,
        writer_set_mib=4,
        why="The same in a file of 4 MiB, one write after the other.",
    ),
}
