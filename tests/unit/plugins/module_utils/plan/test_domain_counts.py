# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counted: every property that kvm_domain manages is changed by a case, and documented.

A new field of Wanted, WantedDisk or WantedNic fails here until there is an option with words and a case that changes it.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from typing import Any, Dict, Iterator, List, Mapping, Set, Tuple

import pytest
import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Boot
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import (
    Wanted,
    WantedBacking,
    WantedDisk,
    WantedNic,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import plan_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain import OPTIONS
from ansible_collections.kvmops.fleet.plugins.modules import kvm_domain
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import CASES, found_of, wanted_of


def _documented() -> Dict[str, Any]:
    """The options, those of the fragments too."""
    told = yaml.safe_load(kvm_domain.DOCUMENTATION)
    options = dict(told["options"])
    for name in told["extends_documentation_fragment"]:
        name = name.rpartition(".")[2]
        if name != "kvm":
            fragment = importlib.import_module("ansible_collections.kvmops.fleet.plugins.doc_fragments." + name)
            options.update(yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"])
    return options


DOCUMENTED = _documented()

# Fields by the option that says them, where the names differ. None: said by no option of its own.
_OPTIONS = {
    "nics": "networks",
    "wait_timeout_s": "wait_timeout",
    "apply_live": "apply",
    "seed": "cloud_init",
    "drops_seed": "cloud_init.state",
}
_OPTIONS.update({"clone_from": "clone_from.name", "clone_pool": "clone_from.pool"})
_OPTIONS.update({name: "shutdown." + name for name in ("agent_timeout_s", "acpi_timeout_s")})
_NIC_OPTIONS = {"kind": ("bridge", "network"), "source": ("bridge", "network")}
# What is no property of the domain but a wish about the task, or names which one is meant.
_ABOUT_THE_TASK = {"name", "apply_live", "uuid", "state", "xml", "force", "wait_timeout_s", "remove_storage"}
_ABOUT_THE_TASK |= {"drops_seed", "rename_from", "clone_from", "clone_pool", "agent_timeout_s", "acpi_timeout_s"}
_WHERE_A_DISK_IS = {"pool", "name", "path", "source", "size_mib", "target", "backing", "image"}
# The planner's own word for the drive of a seed.
_NO_OPTION_OF_A_DISK = {"optional"}


def _names(kind: Any) -> List[str]:
    return [one.name for one in dataclasses.fields(kind)]


def _properties() -> Iterator[str]:
    """Each as the key under which a plan shows its change, a device's name left out."""
    for name in _names(Wanted):
        if name == "seed":
            yield "cloud_init"
        elif name == "boot":
            yield from ("boot." + part for part in _names(Boot))
        elif name not in _ABOUT_THE_TASK | {"disks", "nics"}:
            yield name
    yield from ("disks", "disks.source", "networks", "networks.source", "networks.model")
    yield from ("disks." + name for name in _names(WantedDisk) if name not in _WHERE_A_DISK_IS | _NO_OPTION_OF_A_DISK)


def _changed() -> Set[str]:
    """The keys that the plans of the cases change in domains that are there already."""
    keys: Set[str] = set()
    for case in CASES:
        if {"request", "refused", "stuck"} & set(case["expect"]) or not (case.get("found") or {}).get("state"):
            continue
        plan = plan_domain(wanted_of(case["wanted"]), found_of(case["found"]))
        keys.update(itertools.chain.from_iterable(_generic(key) for key in (*plan.before, *plan.after)))
    return keys


def _generic(key: str) -> Iterator[str]:
    """`disks.vda.cache` is a change of `disks.cache`; `disks.vda` one of `disks`."""
    parts = key.split(".")
    if parts[0] not in ("disks", "networks", "metadata"):
        yield key
    elif parts[0] == "metadata" or len(parts) == 2:
        yield parts[0]
    else:
        yield "%s.%s" % (parts[0], parts[-1])


CHANGED = _changed()


@pytest.mark.parametrize("name", sorted(_properties()))
def test_a_case_changes_it(name: str) -> None:
    assert name in CHANGED


@pytest.mark.parametrize("name", [name for name in _names(Wanted) if name != "nics"] + ["networks"])
def test_a_case_says_it(name: str) -> None:
    option = _OPTIONS.get(name, name)
    assert option in SPEC
    assert any(_said(case["wanted"], option) is not None for case in CASES) or name == "xml"


def _said(wanted: Mapping[str, Any], option: str) -> Any:
    first, dummy, rest = option.partition(".")
    return _said(wanted.get(first) or {}, rest) if rest else wanted.get(first)


@pytest.mark.parametrize("name", [name for name in _names(WantedDisk) if name not in _NO_OPTION_OF_A_DISK])
def test_a_case_says_it_of_a_disk(name: str) -> None:
    assert any(disk.get(name) is not None for disk in _listed("disks"))


@pytest.mark.parametrize("name", _names(WantedBacking))
def test_a_case_says_it_of_an_image_below(name: str) -> None:
    assert any((disk.get("backing") or {}).get(name) is not None for disk in _listed("disks"))


@pytest.mark.parametrize("name", _names(WantedNic))
def test_a_case_says_it_of_a_card(name: str) -> None:
    options = _NIC_OPTIONS.get(name, (name,))
    assert all(any(nic.get(option) is not None for nic in _listed("networks")) for option in options)


def _listed(option: str) -> List[Mapping[str, Any]]:
    return [one for case in CASES for one in case["wanted"].get(option) or ()]


def _options(
    spec: Mapping[str, Any], below: str = "options", path: str = ""
) -> Iterator[Tuple[str, Mapping[str, Any]]]:
    for name, about in spec.items():
        yield path + name, about
        yield from _options(about.get(below) or {}, below, "%s%s." % (path, name))


SPEC: Dict[str, Any] = dict(_options(OPTIONS))
WORDS: Dict[str, Any] = dict(_options(DOCUMENTED, "suboptions"))


def test_what_is_documented_is_there() -> None:
    assert set(WORDS) == set(SPEC)


@pytest.mark.parametrize("name", sorted(SPEC))
def test_it_is_documented(name: str) -> None:
    said, spec = WORDS[name], SPEC[name]
    text = said["description"]
    assert all(line.strip() for line in ([text] if isinstance(text, str) else text))
    assert said.get("type") == spec.get("type")
    assert said.get("choices") == spec.get("choices")
    assert said.get("default") == spec.get("default")
