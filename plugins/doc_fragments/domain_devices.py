# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Disks and network cards of a domain."""

    DOCUMENTATION = r"""
options:
  disks:
    description:
      - All disks of the domain, in order. One that is not listed is detached; its data stays.
      - A disk is recognised by O(disks[].target), else by where its data is.
      - Disks on the buses virtio, scsi and usb are attached to a running guest and detached from it. Unmount a disk in the guest
        before it is detached. The disk that the guest boots from is left to it until its next boot.
    type: list
    elements: dict
    suboptions:
      pool:
        description: Storage pool of the volume O(disks[].name).
        type: str
      name:
        description: Name of the volume in O(disks[].pool).
        type: str
      path:
        description:
          - Path of an image or block device on the host, instead of O(disks[].pool) and O(disks[].name).
          - An empty string takes the medium out of a CD-ROM or floppy drive.
        type: path
      source:
        description: Network source that QEMU opens itself, such as V(nfs://nas/srv/images/web1.qcow2).
        type: str
      format:
        description:
          - Format of the image. It is never probed, since a guest can write any header into its disk.
          - A new disk is V(qcow2) when not given; CD-ROMs, floppies and block devices are V(raw).
        type: str
        choices: [qcow2, raw, vmdk, vdi, vhdx, vpc, qed]
      size_mib:
        description:
          - Size of the volume, in MiB. It is created, sparse and with mode 0600, when it is not there.
          - A smaller volume is grown, also under a running guest, unless another domain uses it. The guest's own partitions and
            filesystems are not.
          - Existing data is never overwritten and never cut off. A smaller size than the existing one is refused.
        type: int
      device:
        description:
          - What the guest sees.
          - A new CD-ROM or floppy without a source is an empty drive. For one that is there that says nothing about its medium;
            see O(disks[].path).
        type: str
        choices: [disk, cdrom, floppy, lun]
        default: disk
      bus:
        description: A new disk gets V(virtio), a CD-ROM V(sata) or V(ide) by machine type, a floppy V(fdc).
        type: str
        choices: [virtio, sata, scsi, ide, usb, fdc]
      target:
        description: Device name, such as V(vda). The first free one of the bus when not given.
        type: str
      readonly:
        description: The guest cannot write to it.
        type: bool
      shareable:
        description: More than one domain may use it at the same time.
        type: bool
      cache:
        description: Cache mode of the host.
        type: str
        choices: [default, none, writethrough, writeback, directsync, unsafe]
      discard:
        description: Whether discards of the guest free space on the host.
        type: str
        choices: [ignore, unmap]
      serial:
        description: Serial number that the guest sees.
        type: str
      backing:
        description: The image below a new one. Only with O(disks[].size_mib).
        type: dict
        suboptions:
          name:
            description: Name of a volume in the same pool.
            type: str
          path:
            description: Path of an image on the host.
            type: path
          format:
            description: Its format. It is never probed.
            type: str
            required: true
            choices: [qcow2, raw, vmdk, vdi, vhdx, vpc, qed]
      image:
        description:
          - An image of the host, such as one for clouds, that a new volume is a copy of. Only where the volume is not there yet.
          - The copy grows to O(disks[].size_mib); without that it is as large as the image. The image itself is not changed.
          - Fetch it with M(ansible.builtin.get_url) first.
        type: dict
        suboptions:
          path:
            description: Path of the image on the host.
            type: path
            required: true
          format:
            description: Its format. It is never probed, and an image that begins like another format is refused.
            type: str
            required: true
            choices: [qcow2, raw, vmdk, vdi, vhdx, vpc]
          checksum:
            description: What its content has to be, such as V(sha256:0f3c…) or V(sha512:…). It is compared before a copy is begun.
            type: str
  networks:
    description:
      - All network cards of the domain, in order. One that is not listed is detached, also from a running guest.
      - A card is recognised by O(networks[].mac), the others by their order.
    type: list
    elements: dict
    suboptions:
      bridge:
        description: Name of a bridge of the host. Exactly one of O(networks[].bridge) and O(networks[].network).
        type: str
      network:
        description: Name of a libvirt network.
        type: str
      mac:
        description: MAC address. libvirt makes one up for a new card when not given.
        type: str
      model:
        description: Model of the card. A new one is V(virtio) when not given.
        type: str
      link:
        description: Whether the cable is plugged in.
        type: str
        choices: [up, down]
"""
