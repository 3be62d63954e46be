# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.host.echoes import answering


def test_who_is_there_is_told_and_who_is_not_is_not() -> None:
    # The second is of a network for documentation: nobody's.
    assert answering(["127.0.0.9", "192.0.2.77", "::1"], 0.5) in (("127.0.0.9", "::1"), ("127.0.0.9",))
    assert answering([], 0.5) == ()
