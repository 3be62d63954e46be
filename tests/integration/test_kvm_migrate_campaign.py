# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ten worst faults of the campaign (tests/faults), one round each. make faults does all of them, often."""

from __future__ import annotations

import os
import random

import pytest

from ansible_collections.kvmops.fleet.tests.faults.campaign import line_of, one_round
from ansible_collections.kvmops.fleet.tests.faults.catalogue import FAULTS, Fault

from .conftest import NEWER
from .fleet import Lab

RELEASES = NEWER
# The same moments again: SEED=… pytest tests/integration/test_kvm_migrate_campaign.py
SEED = int(os.environ.get("SEED") or random.randrange(10**6))


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.worst], ids=lambda fault: fault.id)
def test_a_round(clean: Lab, fault: Fault) -> None:
    one = one_round(clean, fault, SEED, "trixie,trixie")
    assert not one.wrong, line_of(one)
