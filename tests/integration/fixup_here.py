# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fix-up of kvm_p2v_image on images of this machine, without a hypervisor: JSON in, JSON out.

Started by the system's own Python, which has libguestfs. {"folder", "name", "format", "disks": [[name, bytes]], "facts",
"options"}; "look_again" asks what a fix-up of the fixed system would change, and for the text of "files" in it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, ".venv/collections"))

from ansible_collections.kvmops.fleet.plugins.module_utils.host import guestfs_api, image_look, image_mounts  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import KvmError  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import FixupWish  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vFound, Source, SourceDisk  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import VmWish, machine_of  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup import plan_fixup  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_vm import Vm  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World  # noqa: E402

TIMEOUT_S = 900.0


def fix_up(asked: Dict[str, Any]) -> Dict[str, Any]:
    wish = FixupWish(timeout_s=TIMEOUT_S, **{key: _tuples(value) for key, value in asked.get("options", {}).items()})
    disks = tuple(SourceDisk(name, size, serial="S-%s" % name) for name, size in asked["disks"])
    source = Source(asked["name"], "boot", disks, asked["facts"])
    world = World(asked["name"], asked["format"], asked["folder"], "", print)
    vm = Vm(VmWish(asked["name"], fixup=wish), world, None)
    concerns = vm.look(P2vFound(source, disks), asked["facts"], (), False)
    plan = vm.plan(Plan(), False)
    if plan.changes and not asked.get("check"):
        vm.make(lambda: None)
    told = {"steps": list(plan.words), "concerns": [each.as_dict() for each in concerns], **vm.report()}
    if asked.get("look_again"):
        told["again"] = look_again(asked, wish, [(disk.overlay, "qcow2") for disk in vm.found.disks])
    return told


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def look_again(asked: Dict[str, Any], wish: FixupWish, images: Any) -> Dict[str, Any]:
    cards = image_look.cards_of(asked["facts"]["interfaces"])
    with guestfs_api.opened(images, True, False, TIMEOUT_S) as handle:
        root = image_mounts.find_systems(handle, {})[0]
        names = [name for name, dummy in asked["disks"]]
        facts = image_look.look(handle, root, names, machine_of(asked["facts"]), cards)
        files = {path: handle.read_file(path).decode("utf-8", "replace") for path in asked.get("files", ())}
        loaded = {kernel.version: sorted(kernel.loaded or ()) for kernel in facts.kernels}
    return {"words": plan_fixup(wish, facts).words, "files": files, "loaded": loaded, "esp": list(facts.esp)}


if __name__ == "__main__":
    try:
        print(json.dumps(fix_up(json.load(sys.stdin))))
    except KvmError as error:
        print(json.dumps({"failed": str(error)}))
