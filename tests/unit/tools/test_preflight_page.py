# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/preflight.md says what the code says."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import CATALOGUE
from ansible_collections.kvmops.fleet.tests.tools.preflight_page import PAGE, page


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "stale: run make preflight-page"


def test_the_page_lists_every_concern_once() -> None:
    text = page()
    assert all(text.count("| `%s` | %s |" % (entry.id, entry.level)) == 1 for entry in CATALOGUE.values())
