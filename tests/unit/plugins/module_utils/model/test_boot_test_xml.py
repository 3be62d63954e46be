# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain that may run beside the machine it is a copy of."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model.boot_test_xml import without_link

DOMAIN = """<domain><name>a</name><on_reboot>restart</on_reboot><devices>
<interface type="bridge"><mac address="52:54:00:00:00:01"/><link state="up"/></interface>
<interface type="network"><source network="lan"/></interface></devices></domain>"""


def test_no_card_has_a_link_and_a_reboot_ends_it() -> None:
    done = without_link(DOMAIN)
    assert done.count('<link state="down"/>') == done.count("<interface ") == 2
    assert 'state="up"' not in done and "<on_reboot>destroy</on_reboot>" in done
    assert without_link(done) == done


def test_the_card_with_a_probe_is_on_its_bridge_and_on_no_other() -> None:
    done = without_link(DOMAIN, "52:54:00:00:00:01", "kvt0")
    assert done.count('<link state="down"/>') == 1 and 'state="up"' not in done
    assert '<source bridge="kvt0"/>' in done and done.count("<source ") == 2
