# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does not have yet."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.pending import pending_changes
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import domain_of

DISK = {"target": "vda", "source": "/a.qcow2", "format": "qcow2"}


def test_a_guest_that_is_off_waits_for_nothing() -> None:
    assert pending_changes(domain_of({"memory_mib": 512}), None) == []


def test_what_is_the_same_is_not_told() -> None:
    live = {
        "cpu": {"mode": "custom", "model": "Westmere"},
        "metadata": {"group": "web"},
        "disks": [dict(DISK, backing=())],
    }
    config = {"cpu": {"mode": "host-model"}, "disks": [DISK]}
    assert pending_changes(domain_of(config), domain_of(live)) == []


def test_features_that_qemu_gave_are_no_difference_and_another_model_is() -> None:
    live = {"cpu": {"mode": "custom", "model": "qemu64", "features": ["hypervisor=require"]}}
    assert pending_changes(domain_of({"cpu": {"mode": "custom", "model": "qemu64"}}), domain_of(live)) == []
    (told,) = pending_changes(domain_of({"cpu": {"mode": "custom", "model": "Westmere"}}), domain_of(live))
    assert (told["what"], told["next_boot"]) == ("cpu", "Westmere")


def test_what_differs_is_told_by_the_name_of_its_option() -> None:
    config = domain_of({"memory_mib": 512, "boot": {"cmdline": "quiet"}, "disks": [dict(DISK, cache="none")]})
    live = domain_of({"disks": [DISK], "nics": [{"mac": "52:54:00:00:00:01", "kind": "bridge", "source": "br0"}]})
    told = {each["what"]: (each["running"], each["next_boot"]) for each in pending_changes(config, live)}
    assert told == {
        "memory_mib": (256, 512),
        "boot.cmdline": (None, "quiet"),
        "disks.vda.cache": (None, "none"),
        "networks.52:54:00:00:00:01": ("br0", None),
    }


def test_another_seed_is_told_and_nothing_of_it() -> None:
    (told,) = pending_changes(
        domain_of({"remembers": {"user_data": "#a"}}), domain_of({"remembers": {"user_data": "#b"}})
    )
    assert told == {"what": "cloud_init", "running": "another seed", "next_boot": "the seed as it is now"}
