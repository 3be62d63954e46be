from __future__ import annotations

import pytest
from kvmlab.errors import LabError
from kvmlab.shape import check_name, check_rate, plan_shape


def test_names_releases_and_addresses_follow_the_order():
    shape = plan_shape(3, "bookworm,bookworm,trixie")
    found = [(host.name, host.release, host.address) for host in shape.hosts]
    assert found == [
        ("kvm1", "bookworm", "10.77.0.11"),
        ("kvm2", "bookworm", "10.77.0.12"),
        ("kvm3", "trixie", "10.77.0.13"),
    ]
    assert shape.nas is None


def test_releases_are_repeated_for_more_hosts():
    assert [host.release for host in plan_shape(4, "bookworm, trixie").hosts] == [
        "bookworm",
        "trixie",
        "bookworm",
        "trixie",
    ]


def test_no_two_hosts_share_an_address():
    hosts = plan_shape(20, "bookworm", "nfs").all_hosts
    assert len(hosts) == 21
    assert len({host.address for host in hosts}) == len({host.mac for host in hosts}) == 21


def test_shared_storage_adds_a_host_that_is_no_hypervisor():
    shape = plan_shape(1, "trixie", "nfs")
    assert [host.name for host in shape.hosts] == ["kvm1"]
    assert (shape.nas.name, shape.nas.release, shape.nas.address) == ("nas", "bookworm", "10.77.0.10")


@pytest.mark.parametrize(
    ("count", "releases", "says"),
    [
        (-1, "bookworm", "between 0 and 20"),
        (21, "bookworm", "between 0 and 20"),
        (2, "jessie", "unknown release jessie"),
        (2, "", "unknown release"),
        (1, "bookworm,trixie", "2 releases for 1 hosts"),
    ],
)
def test_impossible_shapes_are_refused_with_the_option_and_the_reason(count, releases, says):
    with pytest.raises(LabError, match=says):
        plan_shape(count, releases)


def test_a_smaller_lab_stands_on_the_first_hosts_of_a_larger_one():
    larger = plan_shape(3, "bookworm,bookworm,trixie").hosts
    assert plan_shape(2, "bookworm").within(larger)
    assert not plan_shape(2, "bookworm,trixie").within(larger)
    assert not plan_shape(4, "bookworm,bookworm,trixie").within(larger)


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a/b", "..", "a.b", "a" * 25])
def test_names_that_do_not_fit_namespaces_and_directories_are_refused(name):
    with pytest.raises(LabError, match="--name"):
        check_name(name)


@pytest.mark.parametrize("rate", ["200", "0mbit", "200mb", "1.5gbit", "200mbit; reboot"])
def test_rates_that_tc_would_not_take_are_refused(rate):
    with pytest.raises(LabError, match="for example 200mbit"):
        check_rate(rate)


def test_a_lab_may_have_no_hosts_but_a_switch_and_storage():
    assert plan_shape(0, "").all_hosts == ()
    assert [host.name for host in plan_shape(0, "", "nfs").all_hosts] == ["nas"]
