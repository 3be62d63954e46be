# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A finished copy becomes a guest: fix-up on overlays, a domain, a boot test. The images themselves are never written to."""

from __future__ import annotations

import contextlib
import platform
import time
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    capabilities,
    domains,
    guestfs_api,
    image_fix,
    image_look,
    image_mounts,
    p2v_vm_files,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import FixupWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import (
    BEGUN,
    DONE,
    RECORD,
    VmDisk,
    VmFound,
    VmWish,
    machine_of,
    record_of,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import p2v_vm
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup import AS_IT_IS, Fixup, plan_fixup
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.run import p2v_boot_test
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_vm_domain import VmDomain
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World


class Vm:
    """From the copy to the guest. look() comes first, then the others in their order."""

    def __init__(self, wish: VmWish, world: World, hv: Optional[Hypervisor]) -> None:
        self.wish, self._world, self._hv = wish, world, hv
        self._record_path = record_of(world.folder, wish.name)
        self._domain = VmDomain(wish, hv)
        self.found = VmFound()
        self.concerns: Tuple[Concern, ...] = ()
        # How long it took at a rehearsal; asked before that one's record is removed.
        self.expected_s: Optional[float] = None
        self._seconds: Optional[float] = None

    # --- before anything is changed ---

    def look(
        self,
        found: P2vFound,
        facts: Mapping[str, Any],
        heads: Sequence[Mapping[str, Any]],
        leaves: bool,
        waits: bool = True,
    ) -> Tuple[Concern, ...]:
        """facts: of the machine that becomes a guest. heads: of the finished images' manifests, for a source that is not asked any
        more. leaves: there is a last round. waits: a machine stands still meanwhile."""
        disks, machine = self._of_source(found, facts) if found.source is not None else self._of_heads(heads)
        self._domain.cards = image_look.cards_of(machine.get("interfaces") or ())
        self.found = VmFound(
            disks=disks,
            record=p2v_vm_files.read_record(self._record_path),
            marks=p2v_vm_files.marks(disks),
            machine=machine,
            running={disk.overlay: tuple(self._active(disk.overlay)) for disk in disks},
            cannot_open=guestfs_api.why_not(),
            no_packages=p2v_vm_files.unreadable(self.wish.fixup.guest_agent_packages if self.wish.fixup else ()),
        )
        self.found = replace(self.found, foreign=self._domain.is_foreign(self.found))
        self.expected_s = p2v_vm.expected_s(wish=self.wish, found=self.found)
        changes = found.source is not None and (leaves or any(found.differing.values()))
        told = p2v_vm.concerns(self.wish, self.found, changes)
        told += p2v_vm.channel_concerns(self.wish, self.found, self._domain.has_channel())
        if leaves and waits and found.source is not None:
            told += p2v_vm.rehearsal_concerns(self.expected_s)
        told += p2v_vm.domain_concerns(self.wish, self._domain.cards, self._domain.bridges, bool(machine))
        self.concerns = tuple(told)
        return self.concerns

    def _of_source(self, found: P2vFound, facts: Mapping[str, Any]) -> Tuple[Tuple[VmDisk, ...], Dict[str, Any]]:
        disks = [
            VmDisk(disk.name, self._world.paths(disk.name).image, self._world.format, disk.serial)
            for disk in found.disks
        ]
        return tuple(disks), machine_of(facts)

    def _of_heads(self, heads: Sequence[Mapping[str, Any]]) -> Tuple[Tuple[VmDisk, ...], Dict[str, Any]]:
        ours = [head for head in heads if head.get("run") == self.wish.name]
        disks = [
            VmDisk(h["disk"]["name"], str(h["path"]), str(h["format"]), h["disk"].get("serial"), h.get("marks"))
            for h in ours
        ]
        return tuple(disks), dict(next((head["machine"] for head in ours if head.get("machine")), {}))

    def _active(self, path: str) -> Iterator[str]:
        for name in self._world.users.get(path, ()):
            dom = domains.find(self._hv, name) if self._hv is not None else None
            if dom is not None and domains.status(dom).active:
                yield name

    def plan(self, plan: Plan, copies: bool) -> Plan:
        """The plan of the copy with ours behind it. copies: whether the images change."""
        refused = [each for each in self.concerns if each.level == ERROR]
        if refused:
            raise PreflightError("Make a guest of %s" % self.wish.name, refused)
        before = p2v_vm.retire_steps(self.found) if copies else []
        steps = p2v_vm.steps(self.wish, self.found, copies)
        domain = self._domain.steps(self.found, known=not any(step.action == "vm-fixup" for step in steps))
        # The boot test comes before the source is left, the domain's start behind it: told in that order.
        leaving = [step for step in plan.steps if step.action in ("takeover", "poweroff")]
        kept = [step for step in plan.steps if step not in leaving]
        starts = [step for step in domain if step.action == "start"]
        defines = [step for step in domain if step.action != "start"]
        made = [step for step in steps if step.action == "vm-fixup"]
        tested = [step for step in steps if step.action == "vm-boot-test"]
        flattened = [step for step in steps if step.action == "vm-flatten"]
        told = (*before, *kept, *made, *defines, *tested, *leaving, *flattened, *starts)
        return Plan(told, plan.before, plan.after, plan.warnings + self._domain.warnings, plan.facts)

    # --- while the source stands still, or after it was left ---

    def retire(self) -> None:
        """The images are about to change: no overlay over them, and no record of one, is worth anything."""
        if self._hv is not None:
            p2v_boot_test.end_left(self.wish, self.found, self._hv)
        stale = [disk for disk in self.found.disks if disk.overlay in self.found.marks]
        p2v_vm_files.retire(stale, self._record_path)

    def make(self, pulse: Any) -> None:
        """Everything up to the boot test. pulse: called now and then, and raises when the source has gone its own way."""
        if not self.wish.wanted:
            return
        began = time.monotonic()
        with p2v_boot_test.pulsing(pulse) as look_at_source:
            self._made(look_at_source)
        self._seconds = _since(began)

    def _made(self, look_at_source: Callable[[], None]) -> None:
        self._again()
        if not p2v_vm.is_done(self.wish, self.found):
            self._fix_up()
            self._again()
        if self.wish.domain is None:
            return
        self._domain.define(self.found)
        if self.wish.boot_test is not None and not p2v_vm.was_tested(self.wish, self.found):
            self._test(look_at_source)

    def _test(self, look_at_source: Callable[[], None]) -> None:
        self._world.tell(Progress(self.wish.name, "boot test", 0.0, 0.0, 0.0, 0.0))
        began = time.monotonic()
        told = p2v_boot_test.passed(self.wish, self.found, self._domain, self._hv, look_at_source)
        took = dict((self.found.record or {}).get("took") or {}, boot_test_s=_since(began))
        self._noted(boot_test=told, took=took)

    def settle(self) -> None:
        """The source is off: the images need not stay what it was, and the guest gets one file for each disk, and starts."""
        if not (self.wish.wanted and self.wish.final):
            return
        self._again()
        if any(step.action == "vm-flatten" for step in p2v_vm.steps(self.wish, self.found, False)):
            if not p2v_vm.is_flat(self.found):
                self._noted(flat=BEGUN)
                p2v_vm_files.flatten(self.found.disks)
                self._noted(flat=DONE)
            if self.wish.domain is not None:
                self._domain.define(self.found)
            p2v_vm_files.retire(self.found.disks, None)
        if self.wish.domain is not None and self.wish.starts:
            self._domain.start(self.found)

    def _noted(self, **more: Any) -> None:
        p2v_vm_files.write_record(self._record_path, dict(self.found.record or {}, **more))
        self._again()

    def _again(self) -> None:
        """The files as they are now."""
        record, marks = p2v_vm_files.read_record(self._record_path), p2v_vm_files.marks(self.found.disks)
        self.found = replace(self.found, record=record, marks=marks)

    def _fix_up(self) -> None:
        began, disks = time.monotonic(), self.found.disks
        p2v_vm_files.retire(disks, self._record_path)
        p2v_vm_files.begin(disks)
        try:
            done = self._changed(self.wish.fixup) if self.wish.fixup is not None else AS_IT_IS
            p2v_vm_files.publish(disks)
        except BaseException:
            p2v_vm_files.drop(disks)
            raise
        marks = p2v_vm_files.marks(disks)
        p2v_vm_files.write_record(
            self._record_path,
            {
                "record": RECORD,
                "wish": p2v_vm.wish_of(self.wish),
                "disks": {d.name: {"image": marks[d.image], "overlay": marks[d.overlay]} for d in disks},
                "changes": done.words,
                "concerns": [each.as_dict() for each in done.concerns],
                "equipment": done.equipment,
                "took": {"fixup_s": _since(began)},
            },
        )

    def _changed(self, wish: FixupWish) -> Fixup:
        self._world.tell(Progress(self.wish.name, "fix-up", 0.0, 0.0, 0.0, 0.0))
        emulated = self._hv is None or not capabilities.kvm_works(self._hv)
        images = [(disk.unfinished, "qcow2") for disk in self.found.disks]
        names = [disk.name for disk in self.found.disks]
        with guestfs_api.opened(images, emulated, True, wish.timeout_s) as handle:
            roots = image_mounts.find_systems(handle, self.found.machine.get("root") or {})
            if len(roots) != 1:
                self._refuse([concern("p2v-fixup-no-system", "found: %s" % (", ".join(roots) or "none"))])
            facts = image_look.look(handle, roots[0], names, self.found.machine, self._domain.cards)
            done = plan_fixup(wish, facts, platform.machine())
            self._refuse([each for each in done.concerns if each.level == ERROR])
            image_fix.make(handle, done.changes)
        return done

    def _refuse(self, concerns: List[Concern]) -> None:
        if concerns:
            found = "; ".join("[%s] %s" % (each.id, each.detail) for each in concerns)
            remedy = "%s The images of the copy are as they were" % " ".join(each.remedy for each in concerns)
            raise CannotConverge("Fix up the system of %s" % self.wish.name, found, remedy, concerns)

    # --- the result ---

    def summed(self, told: Dict[str, Any], stood_still: bool) -> Dict[str, Any]:
        """The result of the copy, with what the guest cost. stood_still: the source did meanwhile."""
        if self._seconds is None or "summary" not in told:
            return told
        words = "Of that %.1f s went into the guest: fix-up, domain, boot test."
        if not stood_still:
            words = (
                "The guest took %.1f s: fix-up, domain, boot test. At a cutover the source stands still for as long."
            )
        metrics = dict(told["metrics"], guest_s=self._seconds)
        return dict(told, metrics=metrics, summary=[*told["summary"], words % self._seconds])

    def report(self) -> Dict[str, Any]:
        if not self.wish.wanted:
            return {}
        with contextlib.suppress(OSError):
            self._again()
        record = self.found.record if p2v_vm.is_done(self.wish, self.found) else None
        told: Dict[str, Any] = {"fixup": None, "boot_test": None}
        if record is not None:
            told["fixup"] = {
                "changes": record["changes"],
                "concerns": record["concerns"],
                **record["equipment"],
                "images": [self._image(disk) for disk in self.found.disks],
            }
            told["boot_test"] = record.get("boot_test")
        told["domain"] = self._domain.result()
        return told

    def _image(self, disk: VmDisk) -> Dict[str, Any]:
        if p2v_vm.is_flat(self.found):
            return {"disk": disk.name, "path": disk.image, "below": None}
        return {"disk": disk.name, "path": disk.overlay, "below": disk.image}


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
