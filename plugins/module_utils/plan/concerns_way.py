# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The concerns of kvm_migrate about the way that memory and disks go, and versions with faults; see plan/concerns.py."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, NOTE, WARNING, Entry

ENCRYPTION = (
    Entry(
        "tls-certificates-missing",
        ERROR,
        "tls was asked for, and a host lacks a certificate or key.",
        "Run kvmops.fleet.site with hypervisor_transport: tls, or move with tls: false.",
    ),
    Entry(
        "tls-one-sided",
        WARNING,
        "The move goes over the network in the clear: only one of the hosts has certificates.",
        "Run kvmops.fleet.site with hypervisor_transport: tls, or say tls: false if this is meant.",
    ),
    Entry(
        "tls-elsewhere",
        WARNING,
        "The move goes over the network in the clear: qemu.conf names a place of its own for certificates, or cannot be read.",
        "Say tls: true if the certificates are there, or tls: false if this is meant.",
    ),
    Entry(
        "tls-volume",
        ERROR,
        "TLS over one connection may crash QEMU after 64 GB (QEMU issue 1937), and between these versions there cannot be more.",
        "Update QEMU on the older host, or move with tls: false.",
    ),
    Entry(
        "tls-name",
        ERROR,
        "The copy of disks is encrypted too, and libvirt before 8.2 on the source cannot be told the name in the certificate for it.",
        "Let migrate_uri name the host as its certificate does, or update libvirt on the source.",
    ),
    Entry(
        "tls-storage-stall",
        WARNING,
        "QEMU 5.1 and 5.2 stall when they copy disks encrypted (QEMU issue 310).",
        "Update QEMU, or move with tls: false.",
    ),
)

POSTCOPY = (
    Entry(
        "postcopy-userfaultfd",
        ERROR,
        "Post-copy was allowed, and the destination's QEMU may not use userfaultfd.",
        "Set vm.unprivileged_userfaultfd=1 there (the role hypervisor does, with hypervisor_postcopy: true).",
    ),
    Entry(
        "postcopy-parallel",
        ERROR,
        "Post-copy was allowed and several connections are needed (tls, schedule.connections). QEMU before 10.1 cannot do both.",
        "Move without post-copy, or with tls: false and schedule.connections: 0, or update QEMU to 10.1 on both hosts.",
    ),
    Entry(
        "postcopy-hugepages",
        ERROR,
        "Post-copy was allowed and the guest's memory is in hugepages, of which the destination has none of that size.",
        "Reserve hugepages of that size there, or move without post-copy.",
    ),
    Entry(
        "postcopy-no-recovery",
        WARNING,
        "Post-copy was allowed, and a libvirt before 8.5 cannot resume one that broke: then the guest is lost.",
        "Update libvirt, or move without post-copy.",
    ),
    Entry(
        "postcopy-resume-crash",
        WARNING,
        "Post-copy was allowed, and libvirt 11.2 and 11.3 on the destination crash when they resume one that broke (NEWS 11.4.0).",
        "Update libvirt there, or move without post-copy.",
    ),
    Entry(
        "postcopy-false-failure",
        NOTE,
        "Post-copy was allowed, and libvirt before 11.0 may report a recovery as failed that succeeded (NEWS 11.0.0).",
        "Ask both hosts for the state of the guest before anything is done about it.",
    ),
)

TRAPS = (
    Entry(
        "libvirt-storage-copy-bug",
        ERROR,
        "libvirt 7.3 to 7.5 and 8.7 lose the contents of disks that they copy live (NEWS 7.6.0, 8.8.0).",
        "Update libvirt there, or move the guest when it is off.",
    ),
    Entry(
        "vmx-features",
        WARNING,
        "A guest with the CPU feature vmx that libvirt 9.9 or older started cannot move to 9.10 to 10.1 (NEWS 10.2.0), unless that is mended there.",
        "libvirt refuses it without harm. Take vmx off the domain's CPU and restart it, or choose a host with libvirt 10.2.",
    ),
    Entry(
        "cpu-threads",
        ERROR,
        "A guest with several threads per core that an older QEMU started is refused by QEMU 10.0 with libvirt before 11.10 (NEWS 11.10.0).",
        "Move it when it is off, give it one thread per core and restart it, or update libvirt there.",
    ),
    Entry(
        "nfs-root-squash",
        WARNING,
        "libvirt 10.1 to 10.3 fails on NFS that squashes root (NEWS 10.4.0).",
        "libvirt refuses it without harm. Update libvirt there.",
    ),
    Entry(
        "libvirt-restart-crash",
        WARNING,
        "libvirt 8.8 crashes when it is restarted during an outgoing migration (NEWS 8.9.0).",
        "Do not restart libvirt while the guest moves, or update it.",
    ),
    Entry(
        "guest-end-crash",
        NOTE,
        "libvirt before 10.5 may crash when the guest shuts down during its migration (NEWS 10.5.0).",
        "Do not shut the guest down while it moves. If it happened, start libvirt and run again.",
    ),
    Entry(
        "tcg-lost-writes",
        WARNING,
        "Without KVM, QEMU before 9.0 may miss what the guest writes during a live move, which then hangs or is damaged (seen in slow moves).",
        "Move the guest when it is off, or update QEMU on the source. Guests that run with KVM are not concerned.",
    ),
)
