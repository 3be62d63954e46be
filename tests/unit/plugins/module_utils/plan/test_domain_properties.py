# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for every task, not only for the cases somebody thought of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_build_xml import build
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_diff_xml import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import KvmError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug_xml import macs, read_room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import edits_of, plan_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import place_of
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import found_of, wanted_of

STATE_AFTER = {
    "start": "running",
    "restore": "running",
    "resume": "running",
    "wake": "running",
    "start_paused": "paused",
    "suspend": "paused",
    "shutdown": "shutoff",
    "wait_off": "shutoff",
    "destroy": "shutoff",
    "save": "saved",
}


class Rig:
    """A hypervisor as a value: carries out plans as libvirt would, far enough to plan again."""

    def __init__(self) -> None:
        self.found: DomainFound = found_of({"paths": ["/k", "/log", "/a", "/b"]})
        self.xml: Optional[str] = None
        self.live_xml: Optional[str] = None

    def take(self, plan: Plan) -> None:
        state = self._state()
        for step in plan.steps:
            if step.action == "create_volume":
                self._create(step.args["volume"])
            elif step.action == "define":
                args = step.args
                self.xml = _fill(build(args["name"], args["arch"], args["edits"], args["uuid"]))
                state = "shutoff"
            elif step.action == "undefine":
                self.xml, state = None, None
            elif step.action == "live":
                self._plug(step.args["edit"], step.args["config"])
            elif step.action in ("grow_live", "grow_volume"):
                self._grow(step.args["name"], step.args["capacity_bytes"])
            elif step.action in STATE_AFTER:
                state = STATE_AFTER[step.action]
        if self.xml is not None:
            self.xml = _fill(patch(self.xml, edits_of(plan.steps)))
        self._settle(plan, state)

    def _plug(self, edit: Edit, config: Optional[Edit]) -> None:
        """The card that was plugged in is the card that is defined: it has the same MAC address."""
        assert self.xml is not None and self.live_xml is not None
        if config is not None:
            self.xml = _fill(patch(self.xml, [config]))
            named = set(macs(self.xml)) - set(macs(self.live_xml))
            if edit.name == "nic_add" and edit.args["nic"].mac is None and len(named) == 1:
                edit = Edit("nic_add", {"nic": replace(edit.args["nic"], mac=named.pop())})
        live = read_domain(self.live_xml)
        most = {"memory": {"ceiling_mib": live.memory_mib}, "vcpus": {"ceiling": live.vcpus}}.get(edit.name, {})
        self.live_xml = _fill(patch(self.live_xml, [Edit(edit.name, {**edit.args, **most})]))

    def _grow(self, name: str, capacity_bytes: int) -> None:
        path = "/var/lib/libvirt/images/%s" % name
        volume = replace(self.found.volumes[path], capacity_bytes=capacity_bytes)
        self.found = replace(self.found, volumes={**self.found.volumes, path: volume})

    def _create(self, new: Any) -> None:
        path = "/var/lib/libvirt/images/%s" % new.name
        volume = Volume(new.pool, new.name, path, new.format, new.capacity_bytes, 0)
        self.found = replace(self.found, volumes={**self.found.volumes, path: volume})

    def _state(self) -> Optional[str]:
        status = self.found.status
        return None if status is None else "saved" if status.managed_save else status.state

    def _settle(self, plan: Plan, state: Optional[str]) -> None:
        if self.xml is None or state is None:
            self.found = replace(self.found, status=None, config=None, live=None)
            return
        active = state in ("running", "paused")
        actions = [step.action for step in plan.steps]
        if not active:
            self.live_xml = None
        elif self.live_xml is None or "start" in actions or "start_paused" in actions:
            self.live_xml = self.xml
        old = self.found.status
        autostart = [step.args["value"] for step in plan.steps if step.action == "autostart"]
        status = DomainStatus(
            state="shutoff" if state == "saved" else state,
            persistent=True,
            managed_save=state == "saved",
            autostart=autostart[-1] if autostart else bool(old and old.autostart),
            id=1 if active else None,
        )
        live = read_domain(self.live_xml) if self.live_xml is not None else None
        room = read_room(self.live_xml) if self.live_xml is not None else Room()
        self.found = replace(self.found, status=status, config=read_domain(self.xml), live=live, room=room)


def _fill(xml: str) -> str:
    """What libvirt makes of a definition: a UUID, MAC addresses, the version of a machine type."""
    root = safe_xml.parse(xml)
    kind = root.find("os/type")
    kind.set("machine", {"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2"}.get(kind.get("machine"), kind.get("machine")))
    if root.find("uuid") is None:
        node = root.makeelement("uuid")
        node.text = "11111111-2222-4333-8444-555555555555"
        root.insert(1, node)
    taken = set(safe_xml.attributes(root, "devices/interface/mac", "address"))
    numbers = ("52:54:00:ff:00:%02x" % number for number in range(256))
    for card in root.iterfind("devices/interface"):
        if card.find("mac") is None:
            card.insert(0, card.makeelement("mac", {"address": next(one for one in numbers if one not in taken)}))
            taken.add(card.find("mac").get("address"))
    return safe_xml.render(root)


def _maybe(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[Dict[str, Any]]:
    """Any subset of the options."""
    return st.fixed_dictionaries({}, optional=options)


DISKS = st.lists(
    st.one_of(
        st.builds(
            lambda name, size_mib, more: {"pool": "default", "name": name, "size_mib": size_mib, **more},
            st.sampled_from(["a.img", "b.img", "c.img"]),
            st.sampled_from([10, 10, 20]),
            _maybe(
                cache=st.sampled_from(["none", "writeback"]),
                serial=st.sampled_from(["S1", "S2"]),
                bus=st.sampled_from(["virtio", "sata"]),
                format=st.sampled_from(["raw", "qcow2"]),
                readonly=st.booleans(),
                discard=st.just("unmap"),
            ),
        ),
        st.builds(lambda path: {"path": path, "device": "cdrom"}, st.sampled_from(["/a", "/b", ""])),
        st.builds(lambda name: {"source": "nfs://nas/srv/%s" % name}, st.sampled_from(["x", "y"])),
    ),
    max_size=4,
    unique_by=lambda disk: disk.get("name") or disk.get("path", disk.get("source")),
)
NICS = st.lists(
    st.builds(
        lambda where, more: {**where, **more},
        st.sampled_from([{"bridge": "br0"}, {"bridge": "br1"}, {"network": "lan"}]),
        _maybe(model=st.sampled_from(["virtio", "e1000"]), link=st.sampled_from(["up", "down"])),
    ),
    max_size=3,
)
TEXT = st.text(st.characters(blacklist_categories=["Cc", "Cs"], blacklist_characters="\ufffe\uffff"), max_size=20)
OPTIONS = _maybe(
    memory_mib=st.integers(1, 4096),
    max_memory_mib=st.integers(1, 4096),
    vcpus=st.integers(1, 64),
    max_vcpus=st.integers(1, 64),
    apply=st.sampled_from(["live", "next_boot"]),
    cpu=st.sampled_from(["host-model", "Westmere", {"model": "Westmere", "features": ["vmx=disable"]}]),
    machine=st.sampled_from(["q35", "pc", "pc-q35-7.1"]),
    firmware=st.sampled_from(["bios", "efi"]),
    boot=_maybe(kernel=st.sampled_from(["/k", ""]), cmdline=TEXT.map(str.strip)),
    disks=DISKS,
    networks=NICS,
    graphics=st.sampled_from(["none", "vnc", "spice"]),
    tpm=st.sampled_from(["none", "emulator"]),
    serial_log=st.sampled_from(["", "/log/a", "/log/b"]),
    metadata=st.dictionaries(st.sampled_from(["group", "priority"]), TEXT.map(str.strip), max_size=2),
    autostart=st.booleans(),
    domain_type=st.sampled_from(["auto", "kvm", "qemu"]),
    state=st.sampled_from(["present", "running", "shutdown", "destroyed", "paused", "saved", "absent"]),
)
FIRST = st.builds(lambda more: {"memory_mib": 128, "disks": [], **more}, OPTIONS)


@settings(max_examples=250, deadline=None)
@given(st.builds(lambda first, later: [first, *later], FIRST, st.lists(OPTIONS, max_size=3)))
def test_planning_the_result_of_a_plan_gives_no_steps(tasks: List[Dict[str, Any]]) -> None:
    rig = Rig()
    for options in tasks:
        try:
            wanted = wanted_of(options)
            plan = plan_domain(wanted, rig.found)
        except KvmError:
            continue
        rig.take(plan)
        again = plan_domain(wanted, rig.found)
        assert again.words == ()
        if rig.xml is not None:
            assert differences(rig.xml, rig.xml) == ()


@settings(max_examples=250, deadline=None)
@given(
    FIRST,
    _maybe(
        memory_mib=st.integers(-5, 10**12),
        disks=st.lists(
            st.builds(
                lambda more: {"format": None, **more},
                _maybe(pool=TEXT, name=TEXT, path=TEXT, source=TEXT, size_mib=st.integers(-5, 10**20), target=TEXT),
            ),
            max_size=3,
        ),
        networks=st.lists(_maybe(bridge=TEXT, network=TEXT, mac=TEXT), max_size=3),
        boot=_maybe(kernel=st.text(), initrd=st.text(), cmdline=st.text()),
        cpu=st.one_of(st.text(), st.integers(), st.dictionaries(st.text(), st.text(), max_size=2)),
        metadata=st.dictionaries(st.text(), st.one_of(st.text(), st.integers()), max_size=2),
        uuid=st.text(),
        serial_log=st.text(),
        name=st.text(max_size=300),
    ),
)
def test_any_request_is_refused_in_words_or_can_be_built(sound: Dict[str, Any], wild: Dict[str, Any]) -> None:
    """No traceback ever: an error of ours, or XML that parses."""
    rig = Rig()
    try:
        wanted = wanted_of({**sound, **wild})
        plan = plan_domain(wanted, rig.found)
    except KvmError as error:
        assert str(error)
        return
    for disk in wanted.disks or ():
        assert place_of(disk, rig.found.host)
    rig.take(plan)
    if rig.xml is not None:
        assert read_domain(rig.xml).name == wanted.name
