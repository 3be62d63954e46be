# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks as users run them, from the inventory that the lab writes."""

from __future__ import annotations

from typing import Any, Dict

from .fleet import KERNEL, Lab, answers, guest, until

HOSTS = ("kvm1", "kvm2", "kvm3")


def changed(told: Dict[str, Any]) -> Dict[str, int]:
    return {host: stats["changed"] for host, stats in told["stats"].items()}


def test_evacuate_plans_moves_and_has_nothing_left_to_do(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **guest("web1", 101))
    clean.one("kvm1", "kvm_domain", **dict(guest("off1", 102, memory_mib=256), state="present"))
    until(lambda: answers(clean, 101), 60, "web1 answers")

    clean.playbook("kvmops.fleet.evacuate", "-e", "evacuate_host=kvm1", "--check")
    assert clean.owners("web1", HOSTS) == ["kvm1"] and clean.state("kvm1", "off1") == "shut off"

    told = clean.playbook("kvmops.fleet.evacuate", "-e", "evacuate_host=kvm1")
    moves = {move["name"]: move for move in told["global_custom_stats"]["kvmops_evacuate"]["moves"]}
    assert moves["web1"]["mode"] == "live" and moves["off1"]["mode"] == "offline"
    assert moves["web1"]["metrics"]["downtime_ms"] > 0
    assert clean.virsh("kvm1", "list", "--all", "--name") == ""
    assert clean.owners("web1", HOSTS) == [moves["web1"]["to"]] and answers(clean, 101)
    assert clean.state(moves["off1"]["to"], "off1") == "shut off"

    again = clean.playbook("kvmops.fleet.evacuate", "-e", "evacuate_host=kvm1")
    assert set(changed(again).values()) == {0}


def test_a_guest_that_fits_nowhere_stays_and_the_run_fails(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **dict(guest("big1", 101), state="present"))
    clean.virsh("kvm1", "setmaxmem", "big1", "%dM" % (1024 * 1024), "--config")
    told = clean.playbook("kvmops.fleet.evacuate", "-e", "evacuate_host=kvm1", check=False)
    assert told["rc"] != 0 and clean.state("kvm1", "big1") == "shut off"
    (stays,) = told["global_custom_stats"]["kvmops_evacuate"]["stays"]
    assert stays["name"] == "big1" and "1048576 MiB" in stays["reason"]


def test_verify_moves_a_guest_over_every_pair_and_leaves_nothing(clean: Lab) -> None:
    told = clean.playbook(
        "kvmops.fleet.verify",
        "-e",
        "verify_kernel=%(kernel)s verify_initrd=%(initrd)s verify_machine=pc-q35-7.2" % KERNEL,
    )
    assert told["rc"] == 0
    for host in HOSTS:
        assert clean.virsh(host, "list", "--all", "--name") == ""
