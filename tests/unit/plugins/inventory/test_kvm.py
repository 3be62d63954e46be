# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin as Ansible loads it, with hypervisors in memory. tests/integration/test_inventory.py has real ones."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.run import inventory as reading
from tests.unit.plugins.module_utils.host import fake_hypervisor

DOMAIN = """
<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""
UUID = "00000000-0000-4000-8000-0000000000%02d"
SITE = """
plugin: kvmops.fleet.kvm
uris: {kvm1: "qemu+ssh://root@kvm1/system", kvm2: "qemu+tls://kvm2/system"}
"""


class Site:
    """hosts: answers by name, each a callable. asked: URIs in order of name."""

    def __init__(self, tmp_path: Path) -> None:
        self.hosts: Dict[str, Callable[[], Any]] = {}
        self.asked: List[str] = []
        self.readonly: List[bool] = []
        self.warnings: List[str] = []
        self.path = tmp_path / "kvm.yml"

    def host(self, name: str, *guests: str) -> None:
        hv = fake_hypervisor.hypervisor()
        for number, guest in enumerate(guests, len(self.hosts) * 10):
            hv.conn.defineXMLFlags(DOMAIN % (guest, UUID % number)).createWithFlags()
        self.hosts[name] = lambda: hv

    @contextlib.contextmanager
    def connect(self, uri: str, side: str, readonly: bool) -> Iterator[Any]:
        self.asked.append(uri)
        self.readonly.append(readonly)
        yield self.hosts[side]()

    def read(self, text: str = SITE, cache: bool = True) -> InventoryData:
        self.path.write_text(text, encoding="utf-8")
        plugin = inventory_loader.get("kvmops.fleet.kvm")
        plugin.display.warning = self.warnings.append
        data = InventoryData()
        assert plugin.verify_file(str(self.path))
        plugin.parse(data, DataLoader(), str(self.path), cache)
        # As Ansible does: without a cache there is none to write.
        with contextlib.suppress(AttributeError):
            plugin.update_cache_if_changed()
        data.reconcile_inventory()
        return data


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setattr(reading, "connect", site.connect)
    monkeypatch.setattr(
        "ansible.utils.display.Display.warning", lambda self, words, **more: site.warnings.append(words)
    )
    return site


def test_guests_of_two_hosts_are_hosts_with_variables_and_groups(site: Site) -> None:
    site.host("kvm1", "web1", "db1")
    site.host("kvm2", "web2")
    data = site.read(
        SITE
        + "compose: {ansible_host: kvm_name ~ '.example'}\nkeyed_groups: [{key: kvm_vcpus | string, prefix: cpus}]\n"
    )
    assert sorted(data.hosts) == ["db1", "web1", "web2"] and not site.warnings
    web2 = data.hosts["web2"].get_vars()
    assert web2["kvm_host"] == "kvm2" and web2["kvm_state"] == "running" and web2["ansible_host"] == "web2.example"
    assert {group.name for group in data.hosts["web2"].groups} >= {"kvm_host_kvm2", "kvm_state_running", "cpus_1"}
    assert sorted(site.asked) == ["qemu+ssh://root@kvm1/system?no_tty=1", "qemu+tls://kvm2/system"]
    assert site.readonly == [True, True]


def test_a_dead_host_is_a_warning_and_one_that_is_silent_too(site: Site) -> None:
    site.host("kvm1", "web1")
    silence = threading.Event()

    def refuse() -> Any:
        raise HostError("connect to kvm2", "kvm2", "No route to host", "Check that the host is up.")

    site.hosts["kvm2"] = refuse
    assert list(site.read().hosts) == ["web1"]
    assert len(site.warnings) == 1 and "The guests of kvm2 are missing" in site.warnings[0]
    assert "No route to host" in site.warnings[0]
    site.warnings.clear()
    site.hosts["kvm2"] = lambda: silence.wait(60)
    assert list(site.read(SITE + "timeout_s: 0.3\n").hosts) == ["web1"]
    silence.set()
    assert len(site.warnings) == 1 and "no answer within 0.3 s" in site.warnings[0]


def test_what_answered_is_kept_and_what_did_not_is_asked_again(site: Site, tmp_path: Path) -> None:
    cached = SITE + "cache: true\ncache_plugin: jsonfile\ncache_connection: %s\n" % (tmp_path / "kept")

    def refuse() -> Any:
        raise HostError("connect to kvm2", "kvm2", "No route to host")

    site.host("kvm1", "web1")
    site.hosts["kvm2"] = refuse
    assert list(site.read(cached).hosts) == ["web1"]
    site.host("kvm2", "web2")
    site.asked.clear()
    assert sorted(site.read(cached).hosts) == ["web1", "web2"] and site.asked == ["qemu+tls://kvm2/system"]
    site.asked.clear()
    assert sorted(site.read(cached).hosts) == ["web1", "web2"] and site.asked == []
    assert sorted(site.read(cached, cache=False).hosts) == ["web1", "web2"] and len(site.asked) == 2


def test_the_agent_needs_a_connection_that_may_write(site: Site) -> None:
    site.host("kvm1")
    site.host("kvm2")
    site.read(SITE + "addresses: [agent]\n")
    assert site.readonly == [False, False]


@pytest.mark.parametrize("uris", ["{}", "{kvm1: kvm1.example, kvm2: 7}"])
def test_what_is_no_uri_is_refused_all_at_once(site: Site, uris: str) -> None:
    with pytest.raises(AnsibleParserError, match="uris") as refused:
        site.read("plugin: kvmops.fleet.kvm\nuris: %s\n" % uris)
    assert ("uris[kvm1]" in str(refused.value) and "uris[kvm2]" in str(refused.value)) or uris == "{}"
    assert not site.asked


def test_the_name_of_the_file_says_whose_it_is() -> None:
    plugin = inventory_loader.get("kvmops.fleet.kvm")
    assert not plugin.verify_file("/etc/hosts")
