# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab decides before it touches anything: addresses, names, rates, sources, the inventory, its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kvmlab.cli import parser
from kvmlab.errors import LabError
from kvmlab.inventory import render
from kvmlab.paths import LabPaths
from kvmlab.shape import check_name, check_rate, plan_shape
from kvmlab.sources import machine_sources


def test_addresses_and_releases() -> None:
    shape = plan_shape(4, "bookworm,bookworm,trixie", "nfs", "200mbit")
    assert [(host.name, host.release, host.address) for host in shape.all_hosts] == [
        ("kvm1", "bookworm", "10.77.0.11"),
        ("kvm2", "bookworm", "10.77.0.12"),
        ("kvm3", "trixie", "10.77.0.13"),
        ("kvm4", "bookworm", "10.77.0.14"),
        ("nas", "bookworm", "10.77.0.10"),
    ]
    assert len({host.mac for host in shape.all_hosts}) == 5


@pytest.mark.parametrize(
    ("count", "releases", "words"),
    [
        (0, "trixie", "--hosts 0"),
        (21, "trixie", "--hosts 21"),
        (3, "jessie", "jessie"),
        (1, "trixie,trixie", "2 releases"),
    ],
)
def test_shapes_that_cannot_be(count: int, releases: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        plan_shape(count, releases)


def test_a_smaller_lab_fits_into_a_larger_one() -> None:
    large = plan_shape(3, "bookworm,bookworm,trixie")
    assert plan_shape(2, "bookworm").within(large.hosts)
    assert not plan_shape(2, "trixie").within(large.hosts)


@pytest.mark.parametrize("name", ["../x", "Lab", "", "1lab", "a" * 30, "a b"])
def test_names_that_are_no_file_names(name: str) -> None:
    with pytest.raises(LabError):
        check_name(name)


@pytest.mark.parametrize("rate", ["5", "0mbit", "fast", "1.5gbit", "-1mbit"])
def test_rates_that_tc_does_not_know(rate: str) -> None:
    with pytest.raises(LabError):
        check_rate(rate)


def test_the_inventory_pins_host_keys_and_goes_through_the_labs_namespace() -> None:
    told = yaml.safe_load(render(plan_shape(2, "bookworm", "nfs"), LabPaths("side")))["all"]
    ssh = told["vars"]["ansible_ssh_common_args"]
    assert "StrictHostKeyChecking=yes" in ssh and "kvmlab-side" in ssh and "UserKnownHostsFile=" in ssh
    assert told["children"]["hypervisors"]["hosts"]["kvm2"]["ansible_host"] == "10.77.0.12"
    assert told["children"]["storage"]["hosts"]["nas"]["ansible_host"] == "10.77.0.10"
    assert told["vars"] != yaml.safe_load(render(plan_shape(2, "bookworm"), LabPaths("other")))["all"]["vars"]


def machine(tmp_path: Path, sources: str, name: str) -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    (tmp_path / "apt" / name).write_text(sources)
    return tmp_path


def test_sources_of_another_release_from_a_deb822_file(tmp_path: Path) -> None:
    text = (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb\nURIs: http://other.example/x\nSuites: nodistro\nComponents: main\n"
    )
    assert machine_sources("trixie", machine(tmp_path, text, "sources.list.d/debian.sources")) == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
    ]


def test_sources_of_another_release_from_one_line_files(tmp_path: Path) -> None:
    text = "deb [arch=amd64] http://mirror.example/debian bookworm main # ours\n#deb http://old.example bookworm main\n"
    assert machine_sources("trixie", machine(tmp_path, text, "sources.list")) == [
        "deb http://mirror.example/debian trixie main"
    ]


def test_a_machine_without_a_debian_archive_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="KVMLAB_DEBIAN_MIRROR|no Debian archive"):
        machine_sources("trixie", machine(tmp_path, "", "sources.list"))


@pytest.mark.parametrize(
    "words",
    [
        "up --hosts 2 --os trixie --bare --link 100mbit --shared-storage nfs --name a",
        "down --name a",
        "exec --name a kvm1 -- ls -l",
        "fault kill-qemu --name a kvm1 web1",
        "fault cut kvm1 kvm2 --ports data",
        "volume kvm1 /srv/small --mib 100",
    ],
)
def test_commands_are_understood(words: str) -> None:
    assert callable(parser().parse_args(words.split()).act)
