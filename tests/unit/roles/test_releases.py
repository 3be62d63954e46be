# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file of vars/ a role takes for a release, and whether what stands in it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import jinja2
import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
WITH_RELEASES = sorted(path.parents[1].name for path in ROLES.glob("*/tasks/release.yml"))

# distribution, distribution_version, distribution_major_version as Ansible gathers them on these hosts.
RELEASES = {
    "ubuntu-22.04": ("Ubuntu", "22.04", "22"),
    "ubuntu-24.04": ("Ubuntu", "24.04", "24"),
    "ubuntu-26.04": ("Ubuntu", "26.04", "26"),
    "debian-12": ("Debian", "12.11", "12"),
    "debian-13": ("Debian", "13.1", "13"),
}
SPLIT = ("debian-13", "ubuntu-26.04")  # libvirt 10.6 and later: many small packages


def taken(role: str, facts: Tuple[str, str, str]) -> str:
    """The file that the role's own first_found takes."""
    task = yaml.safe_load((ROLES / role / "tasks" / "release.yml").read_text(encoding="utf-8"))[0]
    terms = task["vars"]["files"]
    names = ("distribution", "distribution_version", "distribution_major_version")
    for template in terms["files"]:
        name = jinja2.Environment().from_string(template).render(ansible_facts=dict(zip(names, facts, strict=True)))
        for folder in terms["paths"]:
            if (ROLES / role / folder / name).exists():
                return name
    raise AssertionError("%s: no file for %s" % (role, facts))


def variables(role: str, release: str) -> Dict[str, Any]:
    """vars/main and the release's file over it, as Ansible loads them."""
    found: Dict[str, Any] = {}
    for path in [*sorted((ROLES / role / "vars" / "main").glob("*.yml")), ROLES / role / "vars" / ("%s.yml" % release)]:
        found.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return found


@pytest.mark.parametrize("role", WITH_RELEASES)
@pytest.mark.parametrize("release", RELEASES)
def test_every_release_has_its_file(role: str, release: str) -> None:
    assert taken(role, RELEASES[release]) == "%s.yml" % release


@pytest.mark.parametrize("role", WITH_RELEASES)
@pytest.mark.parametrize("facts", [("Ubuntu", "20.04", "20"), ("Debian", "11.9", "11"), ("Fedora", "42", "42")])
def test_other_releases_are_unsupported_not_mistaken(role: str, facts: Tuple[str, str, str]) -> None:
    assert taken(role, facts) == "unsupported.yml"


@pytest.mark.parametrize("release", RELEASES)
def test_hypervisor_has_the_packages_it_works_with(release: str) -> None:
    packages: List[str] = variables("hypervisor", release)["__hypervisor_packages"]
    needed = {
        "libnbd-bin",
        "libvirt-clients",
        "libvirt-daemon-system",
        "openssl",
        "ovmf",
        "python3-libvirt",
        "python3-lxml",
        "qemu-block-extra",
        "qemu-system-x86",
        "qemu-utils",
        "swtpm",
        "xorriso",
    }
    assert needed <= set(packages)
    assert len(packages) == len(set(packages))


@pytest.mark.parametrize("release", RELEASES)
def test_what_libvirt_splits_off_is_named_where_it_is_split(release: str) -> None:
    found = variables("hypervisor", release)
    assert ("libvirt-daemon-plugin-lockd" in found["__hypervisor_lock_packages"]) == (release in SPLIT)
    assert ("libvirt-daemon-lock" in found["__hypervisor_lock_packages"]) == (release in SPLIT)
    assert bool(found["__hypervisor_pool_drivers"]) == (release in SPLIT)


@pytest.mark.parametrize("release", RELEASES)
def test_polkit_gets_rules_only_where_it_reads_them(release: str) -> None:
    """0.105, which Ubuntu 22.04 has, knows no rules."""
    found = variables("hypervisor", release)
    assert found["__hypervisor_polkit_rules"] == (release != "ubuntu-22.04")
    assert found["__hypervisor_source_polkit"] == (["policykit-1"] if release == "ubuntu-22.04" else ["polkitd"])


@pytest.mark.parametrize("release", RELEASES)
def test_the_kernel_setting_for_postcopy_is_spared_where_libvirt_opens_the_device(release: str) -> None:
    assert variables("hypervisor", release)["__hypervisor_postcopy_by_device"] == (release in SPLIT)
