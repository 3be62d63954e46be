# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, List, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.inventory import (
    Found,
    Wish,
    best_address,
    inventory_of,
)

STATES = ("running", "paused", "shutoff", "saved")


def guest(host: str, name: str = "web1", uuid: str = "", state: str = "running", **more: Any) -> Found:
    record = {"name": name, "uuid": uuid or "u-" + name, "state": state, "metadata": {}, "moved_to": None, **more}
    return Found(host, "qemu+ssh://root@%s/system" % host, record)


ALL = Wish()


def where(found: Sequence[Found], wish: Wish = ALL) -> List[str]:
    entries, dummy = inventory_of(found, wish)
    return ["%s on %s" % (entry.name, entry.variables["kvm_host"]) for entry in entries]


def test_a_guest_has_what_is_known_of_it_and_its_groups() -> None:
    ((entry,), warnings) = inventory_of(
        [guest("kvm1", memory_mib=512, metadata={"group": "web", "priority": "3"})], Wish()
    )
    assert entry.name == "web1" and not warnings
    assert entry.variables["kvm_memory_mib"] == 512 and entry.variables["kvm_uri"] == "qemu+ssh://root@kvm1/system"
    assert entry.groups == (
        "kvm_domains", "kvm_host_kvm1", "kvm_state_running", "kvm_group_web", "kvm_priority_3",
    )  # fmt: skip
    ((bare,), dummy) = inventory_of([guest("kvm1")], Wish(groups=()))
    assert bare.groups == ("kvm_domains",) and "kvm_address" not in bare.variables


@pytest.mark.parametrize(
    ("states", "home", "told"),
    [
        (("shutoff", "running"), "kvm2", None),
        (("running", "shutoff"), "kvm1", None),
        # The paused half of a live move.
        (("paused", "running"), "kvm2", None),
        (("shutoff", "paused"), "kvm2", None),
        (("shutoff", "shutoff"), "kvm1", "is defined on kvm1 and kvm2 and runs on none"),
        (("running", "running"), "kvm1", "runs on kvm1 and kvm2 at once"),
    ],
)
def test_a_guest_on_two_hosts_is_one_and_lives_where_it_runs(states: Sequence[str], home: str, told: str) -> None:
    found = [guest(host, state=state) for host, state in zip(("kvm1", "kvm2"), states, strict=True)]
    entries, warnings = inventory_of(found, Wish())
    assert [(entry.name, entry.variables["kvm_host"]) for entry in entries] == [("web1", home)]
    assert [told in words for words in warnings] == ([True] if told else [])


def test_a_definition_that_was_kept_when_its_guest_left_is_none() -> None:
    assert where([guest("kvm1", state="shutoff", moved_to="kvm2"), guest("kvm2")]) == ["web1 on kvm2"]
    assert where([guest("kvm1", state="shutoff", moved_to="kvm2")]) == []


def test_different_guests_of_one_name_are_told_apart() -> None:
    found = [guest("kvm1", uuid="a"), guest("kvm2", uuid="b"), guest("kvm2", "db1")]
    entries, warnings = inventory_of(found, Wish())
    assert [entry.name for entry in entries] == ["db1", "web1_kvm1", "web1_kvm2"]
    assert len(warnings) == 1 and "web1_kvm1, web1_kvm2" in warnings[0]
    entries, warnings = inventory_of(found, Wish(hostname="uuid"))
    assert [entry.name for entry in entries] == ["a", "b", "u-db1"] and not warnings


def test_states_and_names_choose() -> None:
    found = [guest("kvm1"), guest("kvm1", "db1", state="shutoff"), guest("kvm2", "web2", state="paused")]
    assert where(found, Wish(states=("running", "paused"))) == ["web1 on kvm1", "web2 on kvm2"]
    assert where(found, Wish(names=("db*", "*2"))) == ["db1 on kvm1", "web2 on kvm2"]
    # What a guest is elsewhere does not make it another: it runs on kvm2, so it is not one of the shut off.
    assert where([guest("kvm1", state="shutoff"), guest("kvm2")], Wish(states=("shutoff",))) == []


@pytest.mark.parametrize(
    ("addresses", "best"),
    [
        ([], None),
        (["127.0.0.1", "::1", "fe80::1", "169.254.3.4"], None),
        (["fe80::1", "2001:db8::7", "192.0.2.7", "192.0.2.9"], "192.0.2.7"),
        (["::1", "2001:db8::7"], "2001:db8::7"),
    ],
)
def test_the_best_address_is_one_that_others_reach(addresses: Sequence[str], best: Any) -> None:
    told = [{"address": address} for address in addresses]
    assert best_address(told) == best
    ((entry,), dummy) = inventory_of([guest("kvm1", addresses=told)], Wish())
    assert entry.variables["kvm_address"] == best


@given(
    st.lists(
        st.builds(
            guest,
            st.sampled_from(["kvm1", "kvm2", "kvm3"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["1", "2", "3"]),
            st.sampled_from(STATES),
        ),
        unique_by=(lambda found: (found.host, found.uuid), lambda found: (found.host, found.name)),
    )
)
def test_every_guest_is_there_once_under_a_name_of_its_own(found: List[Found]) -> None:
    entries, dummy = inventory_of(found, Wish(hostname="uuid"))
    assert sorted(entry.name for entry in entries) == sorted({each.uuid for each in found})
    by_name, dummy = inventory_of(found, Wish())
    assert len({entry.name for entry in by_name}) == len(entries)
    running = {each.uuid for each in found if each.state == "running"}
    assert {entry.variables["kvm_uuid"] for entry in entries if entry.variables["kvm_state"] == "running"} == running
