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


QUESTIONS: Tuple[Question, ...] = (does_it_use_host_things,)
