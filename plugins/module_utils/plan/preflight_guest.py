# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: what belongs to the host and cannot come along, and what belongs to the guest and would be lost."""

from __future__ import annotations

from typing import Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Answers, Case, Question


def does_it_use_host_things(case: Case) -> Answers:
    for kind in case.domain.hostdevs:
        yield concern("host-device", "the domain holds a %s device of its host" % kind)
    if case.found.demands.host_tpm:
        yield concern("host-device", "the domain holds the TPM of its host")
    for name in case.domain.filesystems:
        yield concern("host-folder", "the domain mounts the folder %s of its host" % name)
    for name in case.found.demands.shared_memory:
        yield concern("host-memory", "the domain shares the memory %s with others on its host" % name)


def does_state_stay_behind(case: Case) -> Answers:
    status = case.source.status
    if status is None:
        return
    for count, what in ((status.snapshots, "snapshots"), (status.checkpoints, "checkpoints")):
        if count:
            yield concern(what, "the domain has %d of its %s, which would be lost" % (count, what))
    if status.managed_save and not case.live:
        yield concern("managed-save", "the domain's memory is saved on %s and would be lost" % case.source.side)
    if case.domain.tpm == "emulator" and not case.live:
        yield concern("tpm-state", "the domain has an emulated TPM, whose state an offline move does not carry yet")


QUESTIONS: Tuple[Question, ...] = (does_it_use_host_things, does_state_stay_behind)
