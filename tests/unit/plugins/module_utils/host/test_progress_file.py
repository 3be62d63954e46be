# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a dead run told is removed by the next, also when that one has nothing to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import progress_file


def test_what_a_dead_run_left_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "kvm_migrate-web1.json"
    monkeypatch.setattr(progress_file, "path_of", lambda module, name: str(tmp_path / ("%s-%s.json" % (module, name))))
    told.write_text("{}")
    progress_file.drop("kvm_migrate", "web1")
    progress_file.drop("kvm_migrate", "web1")
    assert not told.exists()
