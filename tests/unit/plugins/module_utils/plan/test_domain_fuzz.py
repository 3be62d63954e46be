# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any task about any domain: refused in words, or planned, and then there is nothing left to do.

FUZZ=20000 tries more than the sixty of every day.
"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import Any, Dict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.fleet.plugins.module_utils.model import domain as is_
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    Boot,
    Cpu,
    Disk,
    Domain,
    DomainStatus,
    Firmware,
    Nic,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import KvmError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import edits_of, plan_domain
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils import dumped
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan import domain_as_found
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import found_of, wanted_of
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.test_domain_properties import OPTIONS

EXAMPLES = int(os.environ.get("FUZZ", "60"))
BOUNDS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DUMPS = dumped.dumps()
TEXT = st.text(max_size=8)
PATHS = st.one_of(
    st.none(), TEXT, st.sampled_from(["/a", "/var/lib/libvirt/images/a.img", "nfs://nas/x", "default/a.img"])
)
STATES = [
    is_.RUNNING,
    is_.PAUSED,
    is_.SHUTOFF,
    is_.CRASHED,
    is_.SHUTTING_DOWN,
    is_.SUSPENDED,
    is_.NOSTATE,
]


def _built(made: Any, **given_: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value of a dataclass, each field anything of its type."""
    left = {one.name for one in fields(made) if one.name not in given_}
    return st.builds(made, **given_, **{name: st.one_of(st.none(), TEXT) for name in left})


DISKS = _built(
    Disk,
    target=st.sampled_from(["", "vda", "vdb", "sda", "x"]),
    device=st.sampled_from(["disk", "cdrom", "floppy", "lun", "?"]),
    kind=st.sampled_from(["file", "block", "network", "volume", "dir", "nvme", "vhostuser", "vhostvdpa", "?"]),
    source=PATHS,
    readonly=st.booleans(),
    shareable=st.booleans(),
    backing=st.just(()),
)
NICS = _built(
    Nic,
    mac=st.sampled_from([None, "52:54:00:00:00:01", "52:54:00:00:00:02"]),
    kind=st.sampled_from(["bridge", "network", "direct", "user", "?"]),
)
DOMAINS = st.builds(
    Domain,
    name=st.just("web1"),
    uuid=TEXT,
    type=st.sampled_from(["qemu", "kvm", "xen"]),
    memory_mib=st.integers(0, 2**54),
    vcpus=st.integers(0, 2**31),
    machine=st.sampled_from([None, "q35", "pc-q35-7.2", "pc", "virt-9.9", "-", ""]),
    firmware=_built(Firmware, kind=st.sampled_from(["bios", "efi"])),
    boot=_built(Boot),
    cpu=_built(Cpu, features=st.lists(TEXT, max_size=2).map(tuple)),
    disks=st.lists(DISKS, max_size=3).map(tuple),
    nics=st.lists(NICS, max_size=3).map(tuple),
    graphics=st.lists(st.sampled_from(["vnc", "spice", "sdl"]), max_size=2).map(tuple),
    tpm=st.sampled_from([None, "emulator", "passthrough"]),
    metadata=st.dictionaries(TEXT, TEXT, max_size=2),
    serial_log=PATHS,
)
STATUS = st.builds(
    DomainStatus,
    state=st.sampled_from(STATES),
    persistent=st.booleans(),
    autostart=st.booleans(),
    managed_save=st.booleans(),
    id=st.sampled_from([None, 1]),
)


@st.composite
def founds(draw: Any) -> DomainFound:
    world = found_of(
        {"paths": draw(st.lists(st.sampled_from(["/k", "/log", "/a", "/b"]))), "remote": draw(st.booleans())}
    )
    if draw(st.booleans()):
        return world
    status = draw(STATUS)
    live = draw(DOMAINS) if status.active else None
    return replace(world, status=status, config=draw(DOMAINS), live=live)


@BOUNDS
@given(OPTIONS, founds())
def test_any_task_about_anything_found(options: Dict[str, Any], world: DomainFound) -> None:
    try:
        plan = plan_domain(wanted_of(options), world)
    except KvmError as error:
        assert str(error)
        return
    assert all(step.words for step in plan.steps)
    assert plan.changes is bool(plan.words)


@BOUNDS
@given(OPTIONS, st.sampled_from(DUMPS))
def test_after_any_task_about_any_dump_there_is_nothing_to_do(options: Dict[str, Any], dump: dumped.Dump) -> None:
    world = domain_as_found.found(dump.kept)
    try:
        wanted = wanted_of({**options, "name": dump.name, "state": "present"})
        plan = plan_domain(wanted, world)
    except KvmError as error:
        assert str(error)
        return
    after = patch(dump.kept, edits_of(plan.steps))
    made = {
        "/srv/pools/default/" + new.name: Volume(new.pool, new.name, "", new.format, new.capacity_bytes, 0)
        for new in (step.args["volume"] for step in plan.steps if step.action == "create_volume")
    }
    status = DomainStatus(is_.SHUTOFF, persistent=True, autostart=bool(wanted.autostart))
    again = plan_domain(wanted, replace(world, config=read_domain(after), status=status, volumes=made))
    assert again.words == (), plan.words
