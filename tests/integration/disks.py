# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks with content that can be compared, made and read on the lab hosts themselves."""

from __future__ import annotations

import re
from typing import List

from .fleet import IMAGES, Lab

# An ext4 file system with a folder of random files and their checksums; the guest appends to /records.
_MAKE = """
set -eu
work=$(mktemp -d)
mkdir $work/tree $work/tree/files
for number in $(seq 1 40); do head -c 500000 /dev/urandom > $work/tree/files/$number; done
(cd $work/tree/files && sha256sum * > ../SHA256SUMS)
truncate -s {mib}M $work/disk.raw
mke2fs -q -t ext4 -d $work/tree $work/disk.raw
qemu-img convert -q -f raw -O {format} $work/disk.raw {path}
rm -r $work
virsh -q pool-refresh {pool}
"""

_READ = """
set -eu
work=$(mktemp -d)
qemu-img convert -q -U -f {format} -O raw {path} $work/disk.raw
e2fsck -p $work/disk.raw >/dev/null || test $? -le 1
debugfs -R "rdump / $work" $work/disk.raw 2>/dev/null
(cd $work/files && sha256sum --quiet -c ../SHA256SUMS) && echo FILES-EQUAL
cat $work/records 2>/dev/null || true
rm -r $work
"""


def make_disk(lab: Lab, host: str, name: str, mib: int = 256, image_format: str = "qcow2", folder: str = IMAGES) -> str:
    """An image with 20 MB of checksummed files in an ext4 file system. Gives its path."""
    path = "%s/%s" % (folder, name)
    pool = "default" if folder == IMAGES else folder.rsplit("/", 1)[-1]
    lab.sh(host, "sh", "-c", _MAKE.format(mib=mib, path=path, format=image_format, pool=pool))
    return path


def records_of(lab: Lab, host: str, path: str, image_format: str = "qcow2") -> List[int]:
    """The numbers the guest wrote, after its files were compared with their checksums. The guest must be off."""
    said = lab.sh(host, "sh", "-c", _READ.format(path=path, format=image_format))
    assert "FILES-EQUAL" in said, said
    return [int(number) for number in re.findall(r"^(\d+)", said, re.MULTILINE)]


def sha256(lab: Lab, host: str, path: str) -> str:
    return lab.sh(host, "sha256sum", path).split()[0]


def exists(lab: Lab, host: str, path: str) -> bool:
    return "there" in lab.sh(host, "sh", "-c", 'test -e "%s" && echo there || true' % path)
