# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes on real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, journal
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import LEAVING, Journal

UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(name="_places", autouse=True)
def fixture_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_side, "JOURNALS", str(tmp_path / "notes"))


def test_a_note_is_kept_with_inodes_read_and_forgotten(tmp_path: Path) -> None:
    image = tmp_path / "web1.qcow2"
    image.write_bytes(b"x")
    note = Journal("r", "web1", UUID, "live", "kvm1", "kvm2", "a", "b", created=(str(image),))
    kept = journal.keep(HERE, LEAVING, note, [str(image)])
    assert kept.made == {str(image): image.stat().st_ino}
    images, found = journal.survey(HERE, [], LEAVING, UUID)
    assert found == kept and images[str(image)].exists
    journal.forget(HERE, LEAVING, UUID)
    assert journal.survey(HERE, [], LEAVING, UUID) == ({}, None)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes" / LEAVING / (UUID + ".json")
    path.parent.mkdir(parents=True)
    path.write_text('{"created": [], "temporary": [], "phase": "elsewhere"}')
    with pytest.raises(HostError, match=str(path)):
        journal.survey(HERE, [], LEAVING, UUID)
