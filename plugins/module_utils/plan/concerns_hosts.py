# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The concerns of kvm_migrate about the two hosts and the machine that they build; see plan/concerns.py."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, NOTE, WARNING, Entry

HOSTS = (
    Entry(
        "same-host",
        ERROR,
        "Both ends report one host UUID: one host under two names, or two that were cloned.",
        "Name another host, or give each its own host_uuid in libvirtd.conf.",
    ),
    Entry(
        "name-taken",
        ERROR,
        "The destination has another domain of that name, with another UUID.",
        "Rename or remove one of the two.",
    ),
    Entry(
        "uuid-taken",
        ERROR,
        "The destination knows the domain's UUID under another name.",
        "Remove one of the two, or give it another UUID.",
    ),
    Entry("runs-twice", ERROR, "The guest is active on both hosts.", "Stop one of them now, then check the disks."),
    Entry(
        "job-running",
        ERROR,
        "libvirt is busy with the domain: a migration, a save, a backup, a snapshot.",
        "Wait for its end, or end it with virsh domjobabort.",
    ),
    Entry(
        "migrate-host-unknown",
        ERROR,
        "The source finds no address for the host of migrate_uri.",
        "Name it in /etc/hosts or in DNS on the source, or give an address in migrate_uri.",
    ),
    Entry(
        "migrate-host-loopback",
        ERROR,
        "On the source the host of migrate_uri is the source itself (127.0.0.0/8 or ::1).",
        "Mend /etc/hosts on the source, or give an address in migrate_uri.",
    ),
    Entry(
        "libvirt-too-old",
        ERROR,
        "A libvirt is older than what the move needs of it.",
        "Update libvirt there, or do without what needs it.",
    ),
)

CAPACITY = (
    Entry(
        "memory-short",
        ERROR,
        "The destination has less memory than the guest may use: free memory for a live move, in all for an offline one.",
        "Choose another host, or make room there.",
    ),
    Entry(
        "hugepages-short",
        ERROR,
        "The guest's memory is in hugepages, and the destination has too few free ones of that size.",
        "Reserve more there (vm.nr_hugepages, or hugepages= at boot), or choose another host.",
    ),
    Entry(
        "vcpus-many",
        ERROR,
        "The destination gives a guest of that machine type fewer virtual CPUs.",
        "Choose another host, or take CPUs off the domain.",
    ),
)

MACHINE = (
    Entry(
        "domain-type",
        ERROR,
        "The destination cannot run domains of that type (kvm without KVM).",
        "Enable it there, or choose another host.",
    ),
    Entry(
        "emulator-missing",
        ERROR,
        "The destination has no such emulator binary.",
        "Install it there at the same path, or take the element emulator out of the domain's XML.",
    ),
    Entry(
        "machine-missing",
        ERROR,
        "The destination does not know the guest's machine type, or an alias of it means another one there.",
        "Update QEMU there, or give the domain a machine type that both know, and restart it.",
    ),
    Entry(
        "watchdog-unknown",
        ERROR,
        "The domain's XML, as it is sent, has the watchdog of the q35 board (model itco), which libvirt before 9.1 does not know.",
        "Update libvirt there, or take the watchdog off the domain's XML and restart it: the board has it anyway.",
    ),
    Entry(
        "cpu-missing",
        ERROR,
        "The destination cannot give the guest its CPU: an unknown model, or features that are missing.",
        "Give the domain a CPU model that all hosts have (virsh hypervisor-cpu-baseline), and restart it.",
    ),
    Entry(
        "tsc-differs",
        WARNING,
        "The guest was promised a clock counter of one pace (invtsc), and the CPUs of the two hosts differ in it.",
        "Check the guest's time after the move, or choose a host with the same CPU.",
    ),
    Entry(
        "firmware-missing",
        ERROR,
        "The domain wants UEFI firmware, and the destination has none for its machine type.",
        "Install the package ovmf there.",
    ),
    Entry(
        "firmware-differs",
        ERROR,
        "The firmware at that path has another size on the destination. QEMU refuses a running guest then.",
        "Install the same version of the firmware package on both, or move the guest when it is off.",
    ),
    Entry(
        "tpm-missing",
        ERROR,
        "The domain has an emulated TPM, and the destination offers none.",
        "Install the packages swtpm and swtpm-tools there.",
    ),
    Entry(
        "secret-missing",
        ERROR,
        "The domain needs a libvirt secret (encrypted disk or TPM, storage login) that the destination does not have.",
        "Define it there with the same UUID and value (virsh secret-define, secret-set-value).",
    ),
)

NETWORK = (
    Entry(
        "network-missing",
        ERROR,
        "The destination has no active libvirt network of that name.",
        "Create and start it there, or say in network_map what it is called there.",
    ),
    Entry(
        "bridge-missing",
        ERROR,
        "The destination has no bridge of that name.",
        "Create it there, or say in network_map what it is called there.",
    ),
    Entry(
        "card-missing",
        ERROR,
        "An interface sits on a network card (macvtap) that the destination does not have.",
        "Say in network_map what the card is called there.",
    ),
    Entry(
        "mac-taken",
        ERROR,
        "Another domain of the destination has the same MAC address.",
        "Give one of the two another address.",
    ),
    Entry(
        "display-address",
        WARNING,
        "A display listens on an address of its own, which the destination may not have.",
        "Let it listen on 127.0.0.1 or 0.0.0.0, or give the destination that address.",
    ),
    Entry(
        "network-map-unused",
        NOTE,
        "A key of network_map names nothing that the guest is plugged into.",
        "Nothing is to be done when the map is meant for several guests.",
    ),
)
