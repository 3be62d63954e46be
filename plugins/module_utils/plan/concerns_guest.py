# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The concerns of kvm_migrate about disks and what else belongs to the guest; see plan/concerns.py."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, NOTE, WARNING, Entry

STORAGE = (
    Entry(
        "disk-not-shared",
        ERROR,
        "storage: shared was asked for, and the destination does not show the same file.",
        "Mount the shared storage there, or say storage: copy.",
    ),
    Entry(
        "disk-shared",
        ERROR,
        "storage: copy was asked for, and both hosts show one and the same file: it would be copied onto itself.",
        "Say storage: auto or storage: shared, or name another pool in pool_map.",
    ),
    Entry(
        "shared-disk-unseen",
        ERROR,
        "The disk is on shared storage, and the destination does not show it at that path.",
        "Mount the shared storage there. To copy the disk off it, say storage: copy or name a pool in pool_map.",
    ),
    Entry(
        "storage-unsafe",
        ERROR,
        "Both hosts show one file, but on a file system that libvirt does not know as shared, so it refuses a live move.",
        "Move the guest when it is off, or put the disk on NFS or another cluster file system.",
    ),
    Entry(
        "disk-lock-missing",
        WARNING,
        "A disk is on storage that both hosts see, and no virtlockd keeps a second QEMU off it. libvirt's default has none.",
        "Set lock_manager to lockd on both hosts and restart the guest (hypervisor_lock: lockd of the role hypervisor).",
    ),
    Entry(
        "disk-lock-block",
        NOTE,
        "A disk is a block device that both hosts see. virtlockd protects it across hosts only with lock files on shared storage.",
        "Set scsi_lockspace_dir or lvm_lockspace_dir in qemu-lockd.conf to a folder that all hosts share.",
    ),
    Entry(
        "disk-shareable",
        ERROR,
        "The disk is written to by several guests and not on shared storage.",
        "Put it on shared storage first.",
    ),
    Entry(
        "disk-kind",
        ERROR,
        "The disk is no image file, so it cannot be copied: a block device, a volume, a directory.",
        "Put the disk on storage that both hosts see (a SAN disk by its name under /dev/disk/by-id), or turn it into an image file.",
    ),
    Entry(
        "disk-format",
        ERROR,
        "The image has a format that is not copied.",
        "State the format in the domain's XML (driver type raw or qcow2).",
    ),
    Entry(
        "disk-next-boot",
        ERROR,
        "The persistent definition names a disk that the running guest does not have. It would stay behind.",
        "Attach it to the running guest, or take it off the definition.",
    ),
    Entry(
        "block-job",
        ERROR,
        "A block job (copy, commit, pull, backup) works on a disk.",
        "Wait for its end, or end it with virsh blockjob --abort.",
    ),
    Entry(
        "pool-map-unknown",
        ERROR,
        "pool_map names a pool that the destination does not have, that is not active, or that is no directory.",
        "Create and start a directory pool of that name there, or name another.",
    ),
    Entry(
        "pool-map-unused",
        NOTE,
        "A key of pool_map names no place where the guest has a disk.",
        "Nothing is to be done when the map is meant for several guests.",
    ),
    Entry(
        "pool-missing",
        ERROR,
        "No active directory pool of the destination holds the disk's folder.",
        "Create and start a directory pool for that folder there, or name another pool in pool_map.",
    ),
    Entry(
        "target-disk-used",
        ERROR,
        "Another domain of the destination uses a file of that name.",
        "Choose another name for one of the two disks, or another pool in pool_map.",
    ),
    Entry(
        "target-disk-exists",
        ERROR,
        "A file of that name exists already on the destination. A live copy starts with an empty one.",
        "It is never overwritten. Look what it is; remove it, or choose another host or pool.",
    ),
    Entry(
        "target-disk-differs",
        ERROR,
        "A file of that name exists already on the destination, and its size is another.",
        "It is never overwritten. Look what it is; remove it, or choose another host or pool.",
    ),
    Entry(
        "target-disk-twice",
        ERROR,
        "Two disks of the domain would become one file on the destination.",
        "Name different pools for them in pool_map, or give one of them another file name.",
    ),
    Entry(
        "target-space-short",
        ERROR,
        "The copied disks need more room than the destination's file system has (what is allocated, and 2 %).",
        "Free room there, or choose another host or pool.",
    ),
    Entry(
        "backing-missing",
        ERROR,
        "A thin image builds on a base image that the destination does not have.",
        "Copy the base image there first; it is not written to.",
    ),
    Entry(
        "file-missing",
        ERROR,
        "A file that the guest needs and that does not move with it is missing: kernel, initrd, firmware, ISO image.",
        "Put it there at the same path, or take it off the domain.",
    ),
)

GUEST = (
    Entry(
        "host-device",
        ERROR,
        "The domain holds a device of its host (PCI, USB, mediated device, a TPM that is passed through).",
        "Detach it first.",
    ),
    Entry("host-folder", ERROR, "The domain mounts a folder of its host (virtiofs, 9p).", "Detach it first."),
    Entry("host-memory", ERROR, "The domain shares memory with others on its host (ivshmem).", "Detach it first."),
    Entry(
        "snapshots",
        ERROR,
        "The domain has snapshots, which would be lost: a live move does not carry them, an offline one only when asked.",
        "Delete them first (virsh snapshot-delete), or shut the guest down and say snapshots: carry.",
    ),
    Entry(
        "snapshots-external",
        ERROR,
        "Snapshots lie outside of the images, in files of their own, and are not carried.",
        "Delete them first (virsh snapshot-delete).",
    ),
    Entry(
        "snapshots-mapped",
        ERROR,
        "Snapshots are to be carried, and disks or networks get other names on the destination, which the snapshots do not know.",
        "Move it without pool_map and network_map, or delete the snapshots first.",
    ),
    Entry(
        "checkpoints",
        ERROR,
        "The domain has checkpoints, which would be lost.",
        "Delete them first (virsh checkpoint-delete).",
    ),
    Entry(
        "tpm-state",
        ERROR,
        "The memory of the domain is saved, and the state of its emulated TPM is not where libvirt keeps it.",
        "Start it and migrate it live.",
    ),
)

BESIDE = (
    Entry(
        "probe-silent",
        WARNING,
        "The guest does not answer the probe before the move, so nothing can be said of it.",
        "Check the address and that the guest answers there, from the host that asks (probe.from).",
    ),
    Entry(
        "probe-silent-after",
        WARNING,
        "The guest answered the probe before the move and not after it. The downtime seen is a lower bound.",
        "Look at the guest on its new host, and at the network between.",
    ),
    Entry(
        "probe-gap",
        WARNING,
        "After the guest ran on the destination, clients went without an answer for a second or more.",
        "Let the announcements of the guest's new place (RARP and ARP, sent by QEMU and the guest) through: no filter on the "
        "destination's bridge and switch ports, no forward delay of spanning tree on them.",
    ),
    Entry(
        "probe-failed",
        WARNING,
        "The probe could not be run. The move itself is not concerned.",
        "Check probe.address and probe.from. A host that is to ask for another needs the prober of the role host_base.",
    ),
    Entry(
        "source-disk-left",
        WARNING,
        "A move that another run or somebody else had begun has ended, and a disk is left on the source that nobody noted.",
        "Compare it with the one there, then remove it by hand.",
    ),
)
