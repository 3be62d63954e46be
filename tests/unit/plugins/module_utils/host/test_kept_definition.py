# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A definition is put aside for root only, and is whole or not there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import kept_definition
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError

UUID = "11111111-2222-3333-4444-555555555555"


def test_put_get_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kept"
    monkeypatch.setattr(kept_definition, "FOLDER", str(folder))
    assert kept_definition.get(UUID) is None
    for xml in ("<domain>ü</domain>", "<domain/>"):
        kept_definition.put(UUID, xml)
        assert kept_definition.get(UUID) == xml
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept_definition.drop(UUID)
    kept_definition.drop(UUID)
    assert kept_definition.get(UUID) is None and not list(folder.iterdir())


def test_without_room_for_it_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    monkeypatch.setattr(kept_definition, "FOLDER", str(tmp_path / "kept"))
    with pytest.raises(HostError, match="put the definition aside"):
        kept_definition.put(UUID, "<domain/>")
