# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module shows of its own parameters."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain import SENTENCE
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import HIDDEN, hidden


def test_secret_options_are_not_shown_whoever_gives_them() -> None:
    seed = {"user_data": "geheim"}
    params = {
        "name": None,
        "cloud_init": seed,
        "memory_mib": 64,
        "domains": [{"name": "web1", "cloud_init": seed}, {"name": "web2", "cloud_init": None}],
    }
    assert hidden(params, SENTENCE.secret) == {
        "name": None,
        "cloud_init": HIDDEN,
        "memory_mib": 64,
        "domains": [{"name": "web1", "cloud_init": HIDDEN}, {"name": "web2", "cloud_init": None}],
    }


def test_ansible_hides_them_too_when_it_refuses_a_task_itself() -> None:
    for option in (*SENTENCE.secret, "domains"):
        assert SENTENCE.options[option]["no_log"] is True
