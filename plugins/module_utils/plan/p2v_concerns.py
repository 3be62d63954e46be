# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every concern that kvm_p2v_image can raise: level and remedy stand here, a question states an id and what it found."""

from __future__ import annotations

from typing import Dict, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, NOTE, WARNING, Concern, Entry

ENTRIES: Tuple[Entry, ...] = (
    Entry(
        "p2v-disk-missing", ERROR, "a disk of the request is not on the source", "Name disks that mode gather shows."
    ),
    Entry(
        "p2v-no-disk",
        ERROR,
        "the source shows no disk that could be read",
        "Look at the result of mode gather; name disks.",
    ),
    Entry(
        "p2v-serial-differs",
        ERROR,
        "a disk has another serial number than the request says",
        "Check that this is the right machine and disk; correct serials.",
    ),
    Entry(
        "p2v-no-tracking",
        ERROR,
        "the source's kernel cannot tell what is written",
        "Its kernel needs ftrace (tracefs) with the event block_rq_issue.",
    ),
    Entry(
        "p2v-cold-in-use",
        ERROR,
        "a disk is written to by the system that runs on the source",
        "For a machine that serves, take mode hot. In a rescue system, unmount it or swapoff, or leave it out with disks.",
    ),
    Entry(
        "p2v-cold-array",
        ERROR,
        "an md array that is rebuilt writes to a disk",
        "Stop it (mdadm --stop), or wait until it is idle; then run again.",
    ),
    Entry(
        "p2v-cold-medium",
        NOTE,
        "a disk is the one that the rescue system came from",
        "It is left out.",
    ),
    Entry(
        "p2v-import-path",
        ERROR,
        "a path of import_from cannot be looked at",
        "Give the path of a file or a block device of this host.",
    ),
    Entry(
        "p2v-import-twice",
        ERROR,
        "two paths of import_from lead to one file or device",
        "Give each disk of the machine once.",
    ),
    Entry(
        "p2v-import-target",
        ERROR,
        "a file of import_from is one that the run would write to",
        "Move it out of the way, or choose another name or pool.",
    ),
    Entry(
        "p2v-import-no-format",
        ERROR,
        "qemu-img of this host does not know a format",
        "Install the package with QEMU's block drivers, or convert the image elsewhere.",
    ),
    Entry(
        "p2v-import-other-format",
        ERROR,
        "an image begins like one of another format than was said",
        "Correct format. A raw disk that really begins so is not imported: its content would pass for an image's header.",
    ),
    Entry(
        "p2v-import-chain",
        ERROR,
        "an image is not whole without other files, and none that an image names is ever opened",
        "Make one file of it where you trust it (qemu-img convert). Of a VMDK of two files, import the -flat.vmdk as raw.",
    ),
    Entry(
        "p2v-import-unreadable",
        ERROR,
        "QEMU does not open an image",
        "Look at it with qemu-img check; make or send it anew.",
    ),
    Entry(
        "p2v-import-in-use",
        ERROR,
        "an image or a disk of import_from is in use",
        "Stop what uses it: shut the domain down, umount, swapoff, vgchange -an, mdadm --stop. Then run again.",
    ),
    Entry(
        "p2v-cluster-filesystem",
        ERROR,
        "a filesystem is shared with other machines",
        "Copy it with the means of the cluster; leave its disk out with disks.",
    ),
    Entry(
        "p2v-image-exists",
        ERROR,
        "something that this module did not make bears the image's name",
        "Move it away, or choose another name.",
    ),
    Entry(
        "p2v-image-changed",
        ERROR,
        "the image was written to since it was made, by a VM or a conversion",
        "Remove it with its manifest to begin anew, or choose another name.",
    ),
    Entry(
        "p2v-image-in-use",
        ERROR,
        "a domain has the image as its disk",
        "Choose another name, or remove the disk from the domain.",
    ),
    Entry(
        "p2v-other-disk",
        ERROR,
        "the image there is of a disk with another serial number or size",
        "Choose another name, or remove the image with its manifest; a disk that has grown is copied from the beginning.",
    ),
    Entry(
        "p2v-target-space", ERROR, "the pool has less room than the copy needs", "Make room, or choose another pool."
    ),
    Entry(
        "p2v-source-unreachable",
        ERROR,
        "Ansible does not reach the source",
        "See that `ansible -m raw -a true` reaches it; ansible_host, ansible_user and its key belong in the inventory.",
    ),
    Entry(
        "p2v-source-host-key",
        ERROR,
        "the source shows another ssh host key than the controller knows",
        "See that it is the machine that you mean. If it is, let the controller know its key: ssh-keygen -R, then ssh to it.",
    ),
    Entry(
        "p2v-source-root",
        ERROR,
        "the agent cannot become root on the source",
        "Set ansible_become_method and ansible_become_password for it, or log in as root.",
    ),
    Entry("p2v-source-python", ERROR, "the source has no Python", "Install one there: 2.7, or 3.4 and later."),
    Entry("p2v-source-no-ssh", ERROR, "the source has no ssh client", "Install one there, such as openssh-client."),
    Entry(
        "p2v-receiver-closed",
        ERROR,
        "the source's connections do not reach sshd of this host: a firewall drops them, or there is no route",
        "Let it in here, and nobody else: host_base_firewall_allow: [{port: {port}, proto: tcp, from: {from}}] for this host, "
        "then the role host_base. Or set receiver to an address of this host that it reaches.",
    ),
    Entry(
        "p2v-receiver-no-sshd",
        ERROR,
        "no sshd answers the source at that address and port",
        "Set receiver to the address at which sshd of this host listens; ansible_port names its port, now {port}.",
    ),
    Entry(
        "p2v-receiver-name",
        ERROR,
        "the source does not know the name of this host",
        "Set receiver to an address of this host.",
    ),
    Entry(
        "p2v-receiver-host-key",
        ERROR,
        "what answers the source has other ssh host keys than this host",
        "Set receiver to an address that leads here. sshd must use the keys in /etc/ssh/ssh_host_*_key.pub.",
    ),
    Entry(
        "p2v-receiver-no-login",
        ERROR,
        "sshd of this host does not admit root with the key of the run",
        "It needs PermitRootLogin prohibit-password and AuthorizedKeysFile .ssh/authorized_keys, at least for {from}.",
    ),
    Entry(
        "p2v-agent-absent",
        ERROR,
        "the agent on the source did not come",
        "See that the source logs in here by ssh; give it more time with connect_timeout_s.",
    ),
    Entry(
        "p2v-luks",
        WARNING,
        "a disk holds LUKS",
        "All of its blocks are copied as they are, encrypted; the VM will ask for the passphrase at boot.",
    ),
    Entry(
        "p2v-raid",
        WARNING,
        "a disk is a member of an md array",
        "Each member becomes an image; the VM needs all of them.",
    ),
    Entry(
        "p2v-database",
        WARNING,
        "a database runs",
        "An image of a frozen filesystem is what a power cut would leave; name its service in services to have it stopped.",
    ),
    Entry(
        "p2v-disk-left-out",
        WARNING,
        "a disk with mounted filesystems is not in disks",
        "The VM will miss it; add it, or mend fstab.",
    ),
    Entry(
        "p2v-sector-4096",
        WARNING,
        "a disk has logical sectors of 4096 bytes",
        "The VM's disk needs <blockio logical_block_size='4096'/>; partitions are not found otherwise.",
    ),
    Entry(
        "p2v-probe-failed",
        WARNING,
        "the probe could not be run to its end; the copy and the cutover are not concerned",
        "Check probe.address. One probe sends two million requests at most: for a copy of days, give a longer interval_ms.",
    ),
    Entry(
        "p2v-probe-silent",
        WARNING,
        "the machine does not answer the probe before the copy, so nothing can be said of its clients",
        "Check that it answers there when this host asks.",
    ),
    Entry(
        "p2v-probe-silent-after",
        WARNING,
        "the probe was answered before the pause and not after it; the downtime seen is a lower bound",
        "Look at the guest, or the machine, and at the network between. Some guests boot longer than answer_timeout_s.",
    ),
    Entry(
        "p2v-probe-no-guest",
        NOTE,
        "the machine was left and no guest started in this run, so the downtime was not measured",
        "domain.state running starts it in the run.",
    ),
    Entry(
        "p2v-clock",
        NOTE,
        "the source's clock is not kept by NTP",
        "Set it before the cutover; the VM begins with its host's.",
    ),
    Entry(
        "p2v-network-filesystem",
        NOTE,
        "a filesystem of the network is mounted",
        "It is not part of the image; the VM must reach it.",
    ),
)

P2V_CATALOGUE: Dict[str, Entry] = {entry.id: entry for entry in ENTRIES}


def concern(name: str, detail: str) -> Concern:
    """The concern of that id. detail: what was found, with names and values."""
    entry = P2V_CATALOGUE[name]
    return Concern(entry.id, entry.level, detail, entry.remedy)
