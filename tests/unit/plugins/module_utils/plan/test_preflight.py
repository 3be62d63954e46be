# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the preflight answers, case by case (cases/preflight.yml), and that its catalogue and its code agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List, Mapping

import pytest
import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import CATALOGUE, FAMILIES
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns_guest import BESIDE
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import plan_move
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import found_of, wish_of

FOLDER = Path(__file__).parent / "cases"
CASES = yaml.safe_load((FOLDER / "preflight.yml").read_text(encoding="utf-8"))
OTHER_CASES = yaml.safe_load((FOLDER / "migration.yml").read_text(encoding="utf-8"))
# Those of other modules, which raise no concern of a move.
OTHER_PLANS = (
    "cloud_init.py",
    "disk_image.py",
    "domain_clone.py",
    "domain_refusals.py",
    "domain_rename.py",
    "host_network_refusals.py",
)


def raised(case: Mapping[str, Any]) -> List[Concern]:
    """All concerns of the case, of any level, whether it is refused or goes on."""
    try:
        return list(plan_move(wish_of(case.get("wish", {})), found_of(case)).concerns)
    except PreflightError as error:
        return list(error.concerns)
    except CannotConverge as error:
        return list(error.concerns)


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_case(case: Mapping[str, Any]) -> None:
    found, expect = raised(case), case["expect"]
    told = [concern.id for concern in found]
    for name in expect.get("told", []):
        assert name in told, told
    for name in expect.get("not_told", []):
        assert name not in told, told
    for phrase in expect.get("words", []):
        assert any(phrase in "%s -> %s" % (one.detail, one.remedy) for one in found), found
    for one in found:
        entry = CATALOGUE[one.id]
        assert one.level == entry.level and one.detail


def test_each_concern_is_provoked_by_a_case() -> None:
    """A concern that no case provokes is a promise nobody would miss. Those beside the move have tests where they arise."""
    provoked = {name for case in CASES for name in case["expect"].get("told", [])}
    provoked |= {name for case in OTHER_CASES for key in ("refused", "noticed") for name in case["expect"].get(key, [])}
    assert provoked == set(CATALOGUE) - {entry.id for entry in BESIDE}


def test_the_code_raises_nothing_that_is_not_in_the_catalogue() -> None:
    folder = Path(concerns.__file__).parent
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("*.py"))
        if path.name not in OTHER_PLANS and not path.name.startswith(("fixup", "p2v_"))
    )
    named = set(re.findall(r'\b[Cc]oncern\(\s*"([^"]+)"', text))
    assert len(named) > 40
    assert named <= set(CATALOGUE)


def test_ids_are_stable_words_and_given_once() -> None:
    ids = [entry.id for dummy, entries in FAMILIES for entry in entries]
    assert len(ids) == len(set(ids)) == len(CATALOGUE)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+|snapshots|checkpoints", name) for name in ids)
    assert all(entry.when.endswith(".") and entry.remedy.endswith(".") for entry in CATALOGUE.values())


def test_an_error_refuses_and_the_rest_goes_on() -> None:
    for case in CASES:
        refused = any(concern.level == ERROR for concern in raised(case))
        if refused:
            with pytest.raises((PreflightError, CannotConverge)):
                plan_move(wish_of(case.get("wish", {})), found_of(case))


NFS = {"fstype": "nfs4", "mount_source": "nas:/srv", "mount_inside": "/web1.qcow2", "inode": 7}
ODD = {"fstype": "fuse.odd", "inode": 7, "changed_ns": 1700000000123456789}


@pytest.mark.parametrize("storage", ["auto", "shared", "copy"])
@pytest.mark.parametrize("pool_map", [{}, {"/srv/nfs": "pool-nas"}, {"/srv/nfs": "pool-nfs"}, {"/srv/nfs": "gone"}])
@pytest.mark.parametrize("state", ["running", "shutoff"])
@pytest.mark.parametrize("facts", [NFS, ODD])
def test_no_disk_is_ever_copied_onto_itself_or_removed_then(
    storage: str, pool_map: Mapping[str, str], state: str, facts: Mapping[str, Any]
) -> None:
    """One file, seen by both hosts, on the destination under two paths: whatever is asked for."""
    case = {
        "domain": {"disks": [{"target": "vda", "source": "/srv/nfs/web1.qcow2"}]},
        "images": {"/srv/nfs/web1.qcow2": facts},
        "images_there": {"/srv/nfs/web1.qcow2": facts, "/mnt/nas/web1.qcow2": facts},
        "source": {"state": state},
        "dest": {"pools": ["/srv/nfs", "/mnt/nas"]},
    }
    try:
        move = plan_move(wish_of({"storage": storage, "pool_map": pool_map}), found_of(case))
    except PreflightError:
        return
    assert [disk.way for disk in move.moves] == ["shared"]
    assert not [step for step in move.plan.steps if "disk" in step.action or "volume" in step.action]
