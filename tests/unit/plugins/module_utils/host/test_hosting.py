# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is asked about one guest: libvirt's answers, and what is made of those that are none."""

from __future__ import annotations

from typing import Any, Dict, Optional

import libvirt
import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import hosting
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, Nic
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hosting import Demands
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host.fake_hypervisor import refuse

WEB1 = Domain(name="web1", uuid="u", type="qemu", memory_mib=256, vcpus=1, machine="pc-q35-7.2")
CAPABILITIES = """<capabilities><host><cpu><counter name='tsc' frequency='1996800000' scaling='no'/></cpu>
<topology><cells num='2'>
<cell id='0'><pages unit='KiB' size='4'>1</pages><pages unit='KiB' size='2048'>9</pages></cell>
<cell id='1'><pages unit='KiB' size='4'>1</pages><pages unit='KiB' size='2048'>9</pages></cell>
</cells></topology></host></capabilities>"""


class Conn:
    """A virConnect with the answers of one question. refusal: of comparing CPUs."""

    def __init__(self, answer: int = 1, refusal: Optional[Exception] = None, knows: bool = True) -> None:
        self.answer, self.refusal, self.knows = answer, refusal, knows
        self.asked: Dict[str, Any] = {}

    def compareHypervisorCPU(self, *asked: Any) -> int:
        self.asked["flags"] = asked[-1]
        if self.refusal is not None:
            raise self.refusal
        return self.answer

    def getDomainCapabilities(self, *dummy: Any) -> str:
        if not self.knows:
            raise refuse("VIR_ERR_INVALID_ARG", "the machine type is not there")
        return "<domainCapabilities><path>/q</path><domain>qemu</domain><machine>m</machine><arch>a</arch></domainCapabilities>"

    def getCapabilities(self) -> str:
        return CAPABILITIES

    def getFreePages(self, sizes: Any, start: int, count: int) -> Dict[int, Dict[int, int]]:
        self.asked["pages"] = (sizes, start, count)
        return {cell: dict.fromkeys(sizes, 3) for cell in range(start, start + count)}


def lacks(conn: Conn) -> Optional[str]:
    return hosting.cpu_lacks(Hypervisor("x", "kvm2", conn), WEB1, "<cpu/>")


@pytest.mark.parametrize("answer", [libvirt.VIR_CPU_COMPARE_IDENTICAL, libvirt.VIR_CPU_COMPARE_SUPERSET])
def test_a_cpu_that_fits(answer: int) -> None:
    conn = Conn(answer)
    assert lacks(conn) is None
    assert conn.asked["flags"] == libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE


@pytest.mark.parametrize("code", ["VIR_ERR_CPU_INCOMPATIBLE", "VIR_ERR_INTERNAL_ERROR"])
def test_what_a_cpu_lacks_is_in_libvirts_words(code: str) -> None:
    assert lacks(Conn(refusal=refuse(code, "Host CPU does not provide required features: avx512f"))) == (
        "Host CPU does not provide required features: avx512f"
    )


def test_an_old_libvirt_that_only_says_no() -> None:
    assert lacks(Conn(libvirt.VIR_CPU_COMPARE_INCOMPATIBLE)) == "libvirt calls it incompatible"


def test_a_machine_type_that_is_not_there_is_another_question() -> None:
    assert lacks(Conn(refusal=refuse("VIR_ERR_INTERNAL_ERROR", "no such machine"), knows=False)) is None
    assert lacks(Conn(refusal=refuse("VIR_ERR_NO_SUPPORT", "cannot compare"))) is None


def test_hugepages_are_counted_over_all_cells_and_asked_only_where_they_are() -> None:
    conn = Conn()
    demands = Demands(hugepages={2048: 4, 1048576: 1}, cpu_features={"invtsc": "require"})
    told = hosting.read(Hypervisor("x", "kvm2", conn), WEB1, demands, None, ())
    assert told.free_pages == {2048: 6} and conn.asked["pages"] == ([2048], 0, 2)
    assert told.tsc_hz == 1996800000


def test_the_addresses_of_other_guests() -> None:
    others = [Domain("web9", "v", "qemu", 1, 1, nics=(Nic("52:54:00:AA:00:01", "bridge", "br0"), Nic(None, "user")))]
    told = hosting.read(Hypervisor("x", "kvm2", Conn()), WEB1, Demands(), None, others)
    assert told.mac_users["52:54:00:aa:00:01"] == ("web9",)


def test_a_driver_that_cannot_tell_is_no_refusal() -> None:
    with connect("test:///default") as hv:
        domain = Domain("web1", "u", "test", 1, 1, nics=(Nic("m", "direct", "eth1"),))
        told = hosting.read(hv, domain, Demands(secrets=("s",), hugepages={2048: 1}), "<cpu/>", ())
        assert (told.offer, told.cpu_lacks, told.secrets) == (None, None, None)
        assert told.cards == {"eth1"}
        assert hosting.block_jobs(hv.conn.lookupByName("test"), ["vda"]) == {}


def test_what_a_name_means_here() -> None:
    assert hosting.addresses_of("tcp://127.0.0.1:49152") == ("127.0.0.1",)
    assert hosting.addresses_of("tcp://no-such-host.invalid") == ()
    assert hosting.addresses_of(None) is None
    assert hosting.addresses_of("tcp://[::1]") == ("::1",)
