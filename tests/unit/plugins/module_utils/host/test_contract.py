# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What we rely on of a hypervisor: the same tests for the fake one and for a real libvirt."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    capabilities,
    definitions,
    domains,
    lifecycle,
    pools,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.domain_list import see_all
from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains_at_once import remembered
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.patience import Patience
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host import fake_hypervisor

XML = """
<domain type='test'><name>web1</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type>hvm</type></os>
<devices><graphics type='vnc' passwd='geheim'/></devices></domain>
"""
MIB = 1024 * 1024


# test:///default is one for the whole process; a file makes one for each connection.
NODE = """
<node><pool type='dir'><name>default</name><target><path>/pool</path></target></pool></node>
"""


@pytest.fixture(name="hv", params=["fake", "libvirt"])
def fixture_hv(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hypervisor]:
    if request.param == "fake":
        yield fake_hypervisor.hypervisor()
        return
    node = tmp_path / "node.xml"
    node.write_text(NODE, encoding="utf-8")
    with connect("test://%s" % node) as hv:
        yield hv


class TestContract:
    def test_a_missing_domain_is_none(self, hv: Hypervisor) -> None:
        assert domains.find(hv, "nix") is None
        assert domains.find_by_uuid(hv, "99999999-9999-4999-8999-999999999999") is None

    def test_a_definition_is_there_and_off(self, hv: Hypervisor) -> None:
        definitions.define(hv, "web1", XML)
        dom = domains.find(hv, "web1")
        status = domains.status(dom)
        assert (status.state, status.persistent, status.autostart, status.id) == ("shutoff", True, False, None)
        assert domains.read(dom)[0].memory_mib == 64
        found = domains.find_by_uuid(hv, domains.read(dom)[0].uuid)
        assert found is not None
        assert found.name() == "web1"

    def test_secrets_are_read_only_on_request(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        assert "geheim" not in domains.read(dom)[1]
        assert "geheim" in domains.read_with_secrets(dom)

    def test_a_definition_is_replaced_and_keeps_its_uuid(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        before = domains.read(dom)[0]
        definitions.define(hv, "web1", domains.read_with_secrets(dom).replace("65536", "131072"))
        after = domains.read(domains.find(hv, "web1"))[0]
        assert (after.memory_mib, after.uuid) == (128, before.uuid)

    def test_a_name_belongs_to_one_uuid(self, hv: Hypervisor) -> None:
        definitions.define(hv, "web1", XML)
        with pytest.raises(HostError, match=r"Could not define domain web1 on .*already exists with uuid"):
            definitions.define(hv, "web1", XML)

    def test_states(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        lifecycle.start(dom)
        assert domains.status(dom).state == "running"
        assert domains.status(dom).id is not None
        lifecycle.suspend(dom)
        assert domains.status(dom).state == "paused"
        lifecycle.resume(dom)
        assert domains.status(dom).state == "running"
        lifecycle.destroy(dom)
        assert domains.status(dom).state == "shutoff"

    def test_saved_memory(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        lifecycle.start(dom)
        lifecycle.save(dom)
        status = domains.status(dom)
        assert (status.state, status.managed_save) == ("shutoff", True)
        lifecycle.start(dom)
        assert (domains.status(dom).state, domains.status(dom).managed_save) == ("running", False)

    def test_a_shutdown_ends_with_the_event(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        lifecycle.start(dom)
        begin = time.monotonic()
        lifecycle.shutdown(dom, Patience(60, 30, 60), force=False)
        assert time.monotonic() - begin < lifecycle.PRESS_AGAIN_S / 2
        assert domains.status(dom).state == "shutoff"

    def test_waiting_ends_with_the_event_of_somebody_else(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        lifecycle.start(dom)
        threading.Timer(0.1, dom.destroy).start()
        begin = time.monotonic()
        lifecycle.wait_off(dom, timeout_s=60, force=False)
        assert time.monotonic() - begin < lifecycle.PRESS_AGAIN_S / 2

    def test_what_is_off_needs_no_shutdown(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        lifecycle.shutdown(dom, Patience(1, 1, 1), force=False)
        lifecycle.destroy(dom)
        assert domains.status(dom).state == "shutoff"

    def test_starting_twice_is_said_with_what_was_attempted(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        lifecycle.start(dom)
        with pytest.raises(HostError, match=r"Could not start domain web1 on .*running"):
            lifecycle.start(dom)

    def test_autostart(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        definitions.set_autostart(dom, True)
        assert domains.status(dom).autostart is True
        definitions.set_autostart(dom, False)
        assert domains.status(dom).autostart is False

    def test_undefine_is_final_and_may_come_twice(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        definitions.undefine(hv, dom)
        assert domains.find(hv, "web1") is None
        definitions.undefine(hv, dom)

    def test_many_at_once(self, hv: Hypervisor) -> None:
        lifecycle.start(definitions.define(hv, "web1", XML))
        definitions.set_autostart(definitions.define(hv, "web2", XML.replace("web1", "web2")), True)
        seen = {one.name: one for one in see_all(hv, ["web1", "web2", "nix"])}
        assert sorted(seen) == ["web1", "web2"]
        assert [seen[name].status.state for name in sorted(seen)] == ["running", "shutoff"]
        assert [seen[name].status.autostart for name in sorted(seen)] == [False, True]
        assert all(one.status.persistent and one.config is not None for one in seen.values())
        assert see_all(hv, ["web1"], config=False)[0].config is None

    def test_what_is_remembered_is_what_it_would_say(self, hv: Hypervisor) -> None:
        names = ("off", "on", "still", "saved")
        for name in names:
            dom = definitions.define(hv, name, XML.replace("web1", name))
            if name != "off":
                lifecycle.start(dom)
        lifecycle.suspend(domains.find(hv, "still"))
        definitions.set_autostart(domains.find(hv, "on"), True)
        lifecycle.save(domains.find(hv, "saved"))
        seen = remembered(hv)
        for name in names:
            then, now = domains.find(seen, name), domains.find(hv, name)
            assert domains.status(then) == domains.status(now)
            assert domains.read(then) == domains.read(now)
            assert domains.read(then, inactive=False) == domains.read(now, inactive=False)
            assert "geheim" in domains.read_with_secrets(then)
            assert "geheim" not in domains.read(then)[1]
        assert domains.find(seen, "nix") is None
        definitions.define(hv, "new", XML.replace("web1", "new"))
        assert domains.find(seen, "new") is not None

    def test_what_is_remembered_does_not_follow(self, hv: Hypervisor) -> None:
        dom = definitions.define(hv, "web1", XML)
        seen = remembered(hv)
        lifecycle.start(dom)
        followed = domains.status(domains.find(seen, "web1")).state
        # A driver that cannot list domains with their states is asked each time.
        assert followed == ("shutoff" if seen is not hv else "running")

    def test_volumes(self, hv: Hypervisor) -> None:
        pool = pools.list_pools(hv)[0]
        assert (pool.type, pool.active) == ("dir", True)
        assert pool.available_mib > 0
        assert pools.find_volume(hv, pool.name, "a.img") is None
        made = pools.create_volume(hv, pool.name, "a.img", 5 * MIB, "raw")
        assert (made.path, made.capacity_bytes) == ("%s/a.img" % pool.path, 5 * MIB)
        assert pools.find_volume(hv, pool.name, "a.img") == made
        assert pools.find_volume_by_path(hv, made.path) == made
        assert made in pools.list_volumes(hv, pool.name)
        with pytest.raises(HostError, match="a volume of that name exists"):
            pools.create_volume(hv, pool.name, "a.img", 6 * MIB, "raw")
        assert pools.delete_volume(hv, pool.name, "a.img") is True
        assert pools.delete_volume(hv, pool.name, "a.img") is False
        assert pools.find_volume_by_path(hv, made.path) is None

    def test_an_unknown_pool_is_said(self, hv: Hypervisor) -> None:
        with pytest.raises(HostError, match="in pool nix on .*no storage pool"):
            pools.find_volume(hv, "nix", "a.img")

    def test_host_facts(self, hv: Hypervisor) -> None:
        facts = capabilities.host_facts(hv)
        assert facts.memory_total_mib > 0
        assert facts.cpus > 0
        assert facts.emulators
        assert capabilities.domain_offer(hv, "kvm") is None
        assert capabilities.kvm_works(hv) is False
