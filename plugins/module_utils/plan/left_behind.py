# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What belongs to a guest beside its disks: variables, TPM, saved memory, snapshots. Carried, or a reason to refuse."""

from __future__ import annotations

import posixpath
from typing import List, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import save_path, tpm_folder
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, DiskMove, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import redirect
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_moves import NOTHING


class Carried(NamedTuple):
    """A file that an offline move takes along. folder: the directory that has to be made for it, if any."""

    path: str
    what: str
    action: str = "copy-state"
    folder: Optional[str] = None


def carried(found: Found) -> List[Carried]:
    """The files beside the disks, as they lie on the source."""
    domain, status, images = found.source.domain, found.source.status, found.source.images
    if domain is None or status is None:
        return []
    files = [Carried(domain.nvram, "UEFI variables", "copy-nvram")] if domain.nvram else []
    if status.managed_save:
        files.append(Carried(save_path(domain.name), "saved memory"))
    if domain.tpm == "emulator":
        top = tpm_folder(domain.uuid)
        paths = sorted(path for path in images if path.startswith(top + "/"))
        files += [Carried(path, "TPM state", folder=posixpath.dirname(path)) for path in paths]
    return [one for one in files if images.get(one.path, NOTHING).exists]


def steps(found: Found) -> List[Step]:
    """What is there already, of a move that was cut short, is compared and never overwritten."""
    dest, answer = found.dest.side, []
    for one in carried(found):
        if found.dest.images.get(one.path, NOTHING).exists:
            words = "compare the %s %s with those on %s" % (one.what, one.path, dest)
            answer.append(Step("verify-disk", words, {"path": one.path}))
        else:
            words = "copy the %s %s to %s" % (one.what, one.path, dest)
            answer.append(Step(one.action, words, {"path": one.path, "folder": one.folder}))
    return answer


def concerns(wish: Wish, found: Found, mode: str, moves: Tuple[DiskMove, ...]) -> Tuple[Concern, ...]:
    """What would be lost. Snapshots are carried only when asked, by an offline move, and only those inside the images."""
    status, domain = found.source.status, found.source.effective
    if status is None or domain is None:
        return ()
    answers: List[Concern] = []
    if status.checkpoints:
        detail = "the domain has %d checkpoint(s), which would be lost" % status.checkpoints
        answers.append(concern("checkpoints", detail))
    if status.snapshots:
        answers += _snapshots(wish, found, mode, moves)
    if domain.tpm == "emulator" and mode != LIVE and not _has_tpm_state(found) and status.managed_save:
        detail = "the memory of the domain is saved, and the state of its TPM is not at %s" % tpm_folder(domain.uuid)
        answers.append(concern("tpm-state", detail))
    return tuple(answers)


def _has_tpm_state(found: Found) -> bool:
    return any(one.what == "TPM state" for one in carried(found))


def _snapshots(wish: Wish, found: Found, mode: str, moves: Tuple[DiskMove, ...]) -> List[Concern]:
    status = found.source.status
    names = ", ".join(found.snapshots) or "%d of them" % (status.snapshots if status else 0)
    if wish.snapshots == "carry" and mode != LIVE:
        if not found.external_snapshots:
            renamed = redirect.words(redirect.redirect_of(wish, found, moves))
            return [concern("snapshots-mapped", "snapshots %s%s" % (names, renamed))] if renamed else []
        detail = "snapshots outside of the images are not carried: %s" % ", ".join(found.external_snapshots)
        return [concern("snapshots-external", detail)]
    return [concern("snapshots", "the domain has snapshots, which would be lost: %s" % names)]
