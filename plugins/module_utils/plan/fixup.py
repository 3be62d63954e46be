# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be changed in a copied system so that it boots as a guest, and how that guest is then equipped."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import WRITE, Change, FixupWish, ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_agent import agent_changes
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_boot import boot_changes, has_serial_console
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_initramfs import initramfs_changes
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_mounts import mount_changes
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_network import network_changes
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_services import service_changes

# Whose programs run on which host.
_RUNS_ON = {"x86_64": ("x86_64", "i386", "i486", "i586", "i686"), "aarch64": ("aarch64",)}


class Fixup(NamedTuple):
    """changes: in the order in which they are made. Empty: the system is as it should be.

    disk_bus, card_model: what its kernels can drive. serial_console, guest_agent: by what a boot can be seen, afterwards.
    """

    changes: Tuple[Change, ...]
    concerns: Tuple[Concern, ...]
    disk_bus: str = "virtio"
    card_model: str = "virtio"
    serial_console: bool = False
    guest_agent: bool = False

    @property
    def words(self) -> List[str]:
        return [change.words for change in self.changes]

    @property
    def equipment(self) -> Dict[str, Any]:
        return {
            "disk_bus": self.disk_bus,
            "card_model": self.card_model,
            "serial_console": self.serial_console,
            "guest_agent": self.guest_agent,
        }


# Without them kernels, tools or what tools know would be missing.
_NEEDED = ("/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc")
# What any system can drive, for one that was not looked into.
AS_IT_IS = Fixup((), (), disk_bus="sata", card_model="e1000e")


def plan_fixup(wish: FixupWish, facts: ImageFacts, host_architecture: str = "x86_64") -> Fixup:
    """The same image gives the same changes; one to which they were made gives none."""
    concerns: List[Concern] = []
    if facts.architecture not in _RUNS_ON.get(host_architecture, (host_architecture,)):
        detail = "it is of %s, this host of %s" % (facts.architecture, host_architecture)
        concerns.append(concern("p2v-fixup-architecture", detail))
    concerns += [concern("p2v-fixup-not-mounted", point) for point in facts.unmounted if point in _NEEDED]
    boot, said = boot_changes(wish, facts)
    concerns += said
    mounts, said = mount_changes(facts)
    concerns += said
    network, said = network_changes(facts)
    concerns += said
    agent = agent_changes(wish, facts)
    concerns += agent.concerns
    changes = [*boot, *mounts, *network, *service_changes(wish, facts), *agent.changes]
    drivers = initramfs_changes(facts, changes)
    concerns += drivers.concerns
    changes += drivers.changes
    after = dict(facts.files, **{change.path: change.content for change in changes if change.kind == WRITE})
    return Fixup(
        tuple(changes),
        tuple(concerns),
        disk_bus="virtio" if drivers.virtio else "sata",
        card_model="virtio" if drivers.virtio else "e1000e",
        serial_console=has_serial_console(after),
        guest_agent=agent.there,
    )
