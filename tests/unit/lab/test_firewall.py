from __future__ import annotations

from kvmlab.firewall import render
from kvmlab.state import Fault

EMPTY = "add table bridge kvmlab\ndelete table bridge kvmlab\n"


def rules(*faults: Fault) -> list[str]:
    return [line.strip() for line in render(faults).splitlines() if "drop" in line]


def test_without_network_faults_the_table_goes():
    assert render([]) == EMPTY
    assert render([Fault("freeze", "kvm1", "web1 1:2"), Fault("power", "kvm2", "")]) == EMPTY


def test_a_cut_drops_both_ways():
    assert rules(Fault("cut", "kvm1", "all both kvm2")) == [
        'iifname "kvm1" oifname "kvm2" counter drop',
        'iifname "kvm2" oifname "kvm1" counter drop',
    ]


def test_a_one_way_cut_of_data_ports_drops_requests_and_answers_of_one_end():
    assert rules(Fault("cut", "kvm1", "data one kvm2")) == [
        'iifname "kvm1" oifname "kvm2" meta l4proto tcp tcp dport { 49152-49215 } counter drop',
        'iifname "kvm1" oifname "kvm2" meta l4proto tcp tcp sport { 49152-49215 } counter drop',
    ]


def test_a_cut_from_the_controller_is_in_the_chains_of_the_switch_itself():
    text = render([Fault("cut", "kvm1", "all both controller")])
    assert 'iifname "kvm1" counter drop' in text.split("chain input")[1].split("chain output")[0]
    assert 'oifname "kvm1" counter drop' in text.split("chain output")[1]


def test_losses_are_counted_in_tenths_of_a_per_cent():
    assert rules(Fault("drop", "kvm3", "0.5 one")) == ['iifname "kvm3" numgen random mod 1000 < 5 counter drop']
    assert len(rules(Fault("drop", "kvm3", "5 both"))) == 2


def test_a_mute_host_announces_nothing_and_the_switch_learns_nothing():
    announcements = [
        'iifname "kvm2" ether type { arp, 0x8035 } counter drop',
        'iifname "kvm2" meta l4proto ipv6-icmp counter drop',
    ]
    assert rules(Fault("mute", "kvm2", "")) == announcements
    text = render([Fault("mute", "kvm2", "")])
    assert announcements[0] in text.split("chain prerouting")[1].split("chain forward")[0]


def test_faults_add_up():
    assert len(rules(Fault("cut", "kvm1", "all both kvm2"), Fault("drop", "kvm1", "5 one"))) == 3
