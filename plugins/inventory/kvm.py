# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kvm
short_description: The guests of many hypervisors as hosts
version_added: 0.1.0
description:
  - Asks many libvirt hypervisors at the same time which guests they have. Each guest becomes a host of the inventory, once,
    on the hypervisor where it runs.
  - A hypervisor that does not answer is a warning; the guests of the others are there.
  - Connections only read, except where O(addresses) has V(agent). No secret is read. Nothing is changed.
  - How Ansible connects to a guest is left to you; see O(compose).
  - A guest has everything that P(kvmops.fleet.kvm_domain_info#module) tells of a domain as variables that begin with C(kvm_),
    and C(kvm_host), C(kvm_uri), C(kvm_addresses) and C(kvm_address).
  - A definition that was kept when its guest moved away (O(kvmops.fleet.kvm_migrate#module:keep_source)) is no guest.
options:
  plugin:
    description: Name of this plugin.
    type: str
    required: true
    choices: [kvmops.fleet.kvm]
  uris:
    description:
      - Name of each hypervisor and its libvirt URI, as the controller reaches it. The name becomes C(kvm_host) and part of a
        group; use the one that your inventory has for it, and a task can be delegated to it.
      - Over ssh nothing is asked on the terminal. The host key has to be known and the key has to be able to log in.
    type: dict
    required: true
  addresses:
    description:
      - Where addresses of running guests are looked for. The first that knows any is taken.
      - V(lease) is what libvirt's own networks gave out, V(arp) the neighbours that the hypervisor has heard of, V(agent) what
        the guest agent in the guest says.
      - libvirt 9.0 (Debian 12) was seen to fail at V(arp) with C(wrong nlmsg len). Its guests are there, without an address.
      - V(agent) needs a connection that may write, and costs seconds for each guest whose agent does not answer.
    type: list
    elements: str
    choices: [lease, arp, agent]
    default: [lease, arp]
  states:
    description: Only guests in one of these states. All when not given.
    type: list
    elements: str
    choices: [running, paused, shutoff, saved, crashed, in_shutdown, pmsuspended]
  names:
    description: Only guests whose name fits one of these shell patterns. All when not given.
    type: list
    elements: str
    default: []
  hostname:
    description:
      - What a guest is called in the inventory.
      - With V(name), different guests of one name are told, and called by name and hypervisor.
    type: str
    choices: [name, uuid]
    default: name
  group_by:
    description:
      - What makes groups by itself. V(host) makes C(kvm_host_kvm1), V(state) makes C(kvm_state_running), and V(metadata) makes
        one of each key and value that O(kvmops.fleet.kvm_domain#module:metadata) keeps with the guest, as in C(kvm_group_web).
      - All guests are in C(kvm_domains).
    type: list
    elements: str
    choices: [host, state, metadata]
    default: [host, state, metadata]
  timeout_s:
    description: Seconds after which a hypervisor that has not answered is left out.
    type: float
    default: 20
extends_documentation_fragment:
  - constructed
  - inventory_cache
requirements:
  - libvirt-python (on the controller)
  - lxml (on the controller)
notes:
  - The file's name ends in C(kvm.yml) or C(kvm.yaml).
  - With O(cache), each hypervisor that answered is kept. One that did not is asked again.
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
# fleet.kvm.yml
plugin: kvmops.fleet.kvm
uris:
  kvm1: qemu+ssh://root@kvm1/system
  kvm2: qemu+ssh://root@kvm2/system
compose:
  ansible_host: kvm_address

---
# What runs on the controller itself, in groups by size.
plugin: kvmops.fleet.kvm
uris:
  here: qemu:///system
states: [running]
names: ["web*", "db*"]
keyed_groups:
  - key: kvm_vcpus | string
    prefix: cpus
groups:
  large: kvm_memory_mib >= 8192

---
# Guests that have no address that others reach, by their guest agents through the hypervisor (collection community.libvirt).
plugin: kvmops.fleet.kvm
uris:
  kvm1: qemu+ssh://root@kvm1/system
addresses: []
compose:
  ansible_connection: "'community.libvirt.libvirt_qemu'"
  ansible_libvirt_uri: kvm_uri
  ansible_host: kvm_name
"""

from typing import Any, Dict, List, Mapping

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.inventory import Entry, Found, Wish, inventory_of
from ansible_collections.kvmops.fleet.plugins.module_utils.run.inventory import Ask, missing_libraries, read_all


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "kvmops.fleet.kvm"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(("kvm.yml", "kvm.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        missing = missing_libraries()
        if missing:
            raise AnsibleError(
                "%s needs %s on the controller (pip or your distribution)" % (self.NAME, " and ".join(missing))
            )
        self._read_config_data(path)
        uris = self._uris()
        entries, warnings = inventory_of(self._found(uris, self.get_cache_key(path), cache), self._wish())
        for words in warnings:
            self.display.warning(words)
        for entry in entries:
            self._add(entry)

    def _uris(self) -> Dict[str, str]:
        uris = self.get_option("uris")
        wrong = [
            "uris[%s] is %r, not a libvirt URI" % (host, uri) for host, uri in uris.items() if "://" not in str(uri)
        ]
        if wrong or not uris:
            raise AnsibleParserError("; ".join(wrong) or "uris is empty: name a hypervisor and its URI")
        return {str(host): str(uri) for host, uri in uris.items()}

    def _wish(self) -> Wish:
        states = self.get_option("states")
        return Wish(
            states=None if states is None else tuple(states),
            names=tuple(self.get_option("names")),
            hostname=self.get_option("hostname"),
            groups=tuple(self.get_option("group_by")),
        )

    def _found(self, uris: Mapping[str, str], key: str, cache: bool) -> List[Found]:
        """What each hypervisor has, from the cache where that knows it."""
        ask = Ask(self.get_option("timeout_s"), tuple(self.get_option("addresses")))
        caching = self.get_option("cache")
        kept = dict(self._cache.get(key) or {}) if caching and cache else {}
        known = {host: kept[_kept_as(host, uri, ask)] for host, uri in uris.items() if _kept_as(host, uri, ask) in kept}
        read, failures = read_all({host: uri for host, uri in uris.items() if host not in known}, ask)
        for host, words in sorted(failures.items()):
            self.display.warning("The guests of %s are missing. %s" % (host, words))
        known.update(read)
        if caching:
            self._cache[key] = {_kept_as(host, uris[host], ask): records for host, records in known.items()}
        return [Found(host, uris[host], record) for host in uris if host in known for record in known[host]]

    def _add(self, entry: Entry) -> None:
        self.inventory.add_host(entry.name)
        for name, value in entry.variables.items():
            self.inventory.set_variable(entry.name, name, value)
        for group in entry.groups:
            self.inventory.add_host(entry.name, group=self.inventory.add_group(self._sanitize_group_name(group)))
        strict = self.get_option("strict")
        variables = dict(entry.variables)
        self._set_composite_vars(self.get_option("compose"), variables, entry.name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, entry.name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, entry.name, strict=strict)


def _kept_as(host: str, uri: str, ask: Ask) -> str:
    """What an answer is kept under: another question is another answer."""
    return " ".join([host, uri, *ask.addresses])
