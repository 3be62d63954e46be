# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tools and the kernel write, and what is read from it. The texts are real ones."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import (
    blocks,
    btrfs,
    discovery,
    maps,
    mounts,
    network,
    signatures,
    space,
    tracing,
)

DUMPE2FS = """\
Filesystem features:      has_journal ext_attr resize_inode dir_index filetype %s extent 64bit flex_bg
Block size:               1024
Group 0: (Blocks 1-8192) csum 0x0ce1 [ITABLE_ZEROED]
  Primary superblock at 1, Group descriptors at 2-5
  Free blocks: 5000-5009, 5020
  Free inodes: 13-2048
Group 1: (Blocks 8193-16384) csum 0x9a06 [INODE_UNINIT, ITABLE_ZEROED]
  0 free blocks, 2048 free inodes, 0 directories, 2048 unused inodes
  Free blocks:
  Free inodes: 2049-4096
"""


def test_free_blocks_of_dumpe2fs() -> None:
    told = DUMPE2FS % "needs_recovery"
    assert space.parsed_dumpe2fs(told, mounted=True) == [(5000 * 1024, 10 * 1024), (5020 * 1024, 1024)]
    # Not mounted, and its journal not replayed: the bitmaps are old.
    assert space.parsed_dumpe2fs(told, mounted=False) is None
    assert space.parsed_dumpe2fs(DUMPE2FS % "", mounted=False) == [(5000 * 1024, 10 * 1024), (5020 * 1024, 1024)]
    assert space.parsed_dumpe2fs("dumpe2fs: Bad magic number in super-block", mounted=True) is None
    assert space.parsed_dumpe2fs(told.replace("5000-5009", "few"), mounted=True) is None


def test_free_extents_of_xfs_db() -> None:
    shape = "blocksize = 4096\nagblocks = 25600\nagblklog = 15\n"
    lines = "    agno    agbno      len\n       0       24      165\n       2    16399      184\n"
    histogram = "   from      to extents  blocks    pct\n      1       1      10      10   0.01\n"
    found = space.parsed_freesp(shape, lines + histogram)
    assert found == [(24 * 4096, 165 * 4096), ((2 * 25600 + 16399) * 4096, 184 * 4096)]
    assert space.parsed_freesp("", lines) is None


def test_free_extents_of_a_physical_volume() -> None:
    text = "  /dev/sda3|1048576|4194304|0|1792|linear\n  /dev/sda3|1048576|4194304|1792|128|free\n"
    assert maps.parsed_extents(text) == [(1048576 + 1792 * 4194304, 128 * 4194304)]
    assert maps.parsed_extents("") == []


TRACE = """\
 block_rq_issue: 8,0 WS 131072 () 6049792 + 256 [kworker/u4:2]
          <idle>-0       [001] d..2.  4242.1: block_rq_issue: 8,0 WFS 4096 () 2048 + 8 [jbd2/dm-0-8]
 block_rq_issue: 8,16 D 0 () 4096 + 2048 [fstrim]
 block_rq_issue: 7,1 N 0 () 8 + 16 none,0,0 [mkfs.ext4]
 block_rq_issue: 8,0 FF 0 () 0 + 0 [kworker/0:1H]
CPU:1 [LOST 12 EVENTS]
 block_rq_issue: 8,0 W 512 (2a 00 00) 100 + 1 [x + 3 (a)]
"""


def test_events_of_a_trace() -> None:
    assert list(tracing.events(TRACE)) == [
        ("8:0", 6049792 * 512, 131072),
        ("8:0", 2048 * 512, 4096),
        ("8:16", 4096 * 512, 2048 * 512),
        ("7:1", 8 * 512, 16 * 512),
        ("8:0", 0, 0),
        ("8:0", 100 * 512, 512),
    ]


def test_the_filter_numbers_devices_as_the_kernel_does() -> None:
    which, dummy, kinds = tracing.event_filter(["8:16", "259:1"]).partition(" && ")
    assert which == "(dev == %d || dev == %d)" % (8 * 2**20 + 16, 259 * 2**20 + 1)
    assert kinds == '(rwbs ~ "*W*" || rwbs ~ "*D*" || rwbs ~ "*N*")'


def test_mounts_and_their_blanks() -> None:
    table = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg0-root ro,errors=remount-ro\n"
        "30 22 8:5 /data /srv/with\\040blank rw - btrfs /dev/sda5 rw,subvol=/data\n"
        "31 22 0:5 / /proc rw,nosuid - proc proc rw\n"
    )
    found = mounts.parsed(table, named=lambda path: path[5:])
    assert [(mount.point, mount.fstype, mount.device) for mount in found] == [
        ("/", "ext4", "mapper/vg0-root"),
        ("/srv/with blank", "btrfs", "sda5"),
        ("/proc", "proc", None),
    ]
    assert [mounts.read_only(mount) for mount in found] == [True, False, False]


def test_signatures() -> None:
    text = "DEVNAME=/dev/sda1\nUUID=AB-12\nLABEL=my\\ disk\nTYPE=vfat\nPART_ENTRY_SCHEME=gpt\n"
    assert signatures.parsed(text) == {"uuid": "AB-12", "label": "my disk", "type": "vfat"}


def test_addresses() -> None:
    text = (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n"
        "2: enp0s16    inet 10.77.0.51/24 brd 10.77.0.255 scope global enp0s16\\       valid_lft forever\n"
        "2: enp0s16    inet6 fe80::5054:ff:fe4d:33/64 scope link \\       valid_lft forever\n"
        "5: vlan7@enp0s16    inet6 2001:db8::7/64 scope global \\       valid_lft forever\n"
    )
    found = network.parsed_addresses(text)
    assert found == {"lo": ["127.0.0.1/8"], "enp0s16": ["10.77.0.51/24"], "vlan7": ["2001:db8::7/64"]}


def test_os_release() -> None:
    found = discovery.os_release('PRETTY_NAME="CentOS Linux 7 (Core)"\nID="centos"\nVERSION_ID=\'7\'\n')
    assert found == {"id": "centos", "version_id": "7", "pretty_name": "CentOS Linux 7 (Core)", "id_like": ""}


class Layout(blocks.Layout):
    """Where devices lie, from facts instead of sysfs: sda with sda3, a physical volume, and volumes on it."""

    def __init__(self, targets: dict[str, Any]) -> None:
        self.disks = ["sda"]
        self._targets = targets
        self._numbers = {"8:3": "sda3", "253:0": "dm-0"}

    def pieces(self, name: str) -> Any:
        if name == "sda3":
            return [blocks.Piece(0, 1000 * 512, "sda", 100 * 512)]
        return super().pieces(name)


@pytest.mark.parametrize(
    ("target", "expect"),
    [
        ([(0, 5120, "linear", ["8:3", "8"])], [(0, 5120, "sda", 108 * 512)]),
        (
            [(0, 512, "linear", ["8:3", "9"]), (512, 1024, "linear", ["8:3", "2"])],
            [(0, 512, "sda", 109 * 512), (512, 1024, "sda", 102 * 512)],
        ),
        ([(0, 512, "crypt", ["aes", "0", "8:3", "0"])], None),
        ([(0, 512, "linear", ["8:3", "0"]), (512, 512, "striped", ["2", "128"])], None),
        ([(0, 512, "linear", ["9:9", "0"])], None),
    ],
)
def test_where_a_logical_volume_lies(monkeypatch: pytest.MonkeyPatch, target: Any, expect: Any) -> None:
    monkeypatch.setattr(blocks, "is_partition", lambda name: False)
    found = Layout({"dm-0": target}).pieces("dm-0")
    assert found == (None if expect is None else [blocks.Piece(*piece) for piece in expect])


def test_ranges_of_a_volume_on_its_disk() -> None:
    pieces = [blocks.Piece(0, 100, "sda", 1000), blocks.Piece(100, 50, "sdb", 0), blocks.Piece(150, 100, "sda", 5000)]
    assert blocks.on_disk(pieces, "sda", [(90, 80)]) == [(1090, 10), (5000, 20)]
    assert blocks.on_disk(pieces, "sdb", [(90, 80)]) == [(0, 50)]


def test_structures_have_the_sizes_of_the_kernel() -> None:
    assert (space.FSMAP_HEAD.size, space.FSMAP.size) == (64, 64)
    assert (space.FIEMAP_HEAD.size, space.FIEMAP_EXTENT.size) == (32, 56)
    assert (btrfs.KEY.size, btrfs.ITEM.size, btrfs.CHUNK.size, btrfs.STRIPE.size) == (104, 32, 48, 32)
