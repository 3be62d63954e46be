# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that leaves while both hosts are looked at, as another run moves it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import DomainGone, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate


def looking(monkeypatch: pytest.MonkeyPatch, answers: List[Any]) -> Any:
    def observe(*_args: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(migrate, "observe_ends", observe)
    monkeypatch.setattr(migrate, "standing", lambda name: None)
    job = migrate.MigrateJob.__new__(migrate.MigrateJob)
    job.wish, job.ends = SimpleNamespace(name="web1"), None
    return job.observe()


GONE = DomainGone("read web1", "kvm1", "no domain with matching uuid")


def test_it_is_looked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looking(monkeypatch, [GONE, "found"]) == "found"


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DomainGone):
        looking(monkeypatch, [GONE] * migrate.LOOKS)


def test_no_other_error_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match="refused"):
        looking(monkeypatch, [HostError("reach", "kvm2", "refused"), "found"])
