from __future__ import annotations

from pathlib import Path

import pytest
from kvmlab import breakable, volumes
from kvmlab.errors import LabError
from kvmlab.lifecycle import mounts_below
from kvmlab.shape import plan_shape
from kvmlab.state import HostRecord, Volume

MOUNTS = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
90 27 0:70 / /var/lib/lab/x/hosts/kvm1/root rw - overlay kvmlab-kvm1 rw
91 27 0:71 / /var/lib/lab/x/hosts/kvm1/volumes/a.breakable/seen rw shared:3 - fuse /dev/fuse rw
92 90 7:3 / /var/lib/lab/x/hosts/kvm1/root/srv/a rw - ext4 /dev/loop3 rw
93 27 0:72 / /var/lib/lab/xy/hosts/kvm1/root rw - overlay kvmlab-kvm1 rw
"""


@pytest.fixture
def image(tmp_path):
    image = tmp_path / "srv-a.ext4"
    breakable.folder_of(image).mkdir()
    return image


def switches(image):
    folder = breakable.folder_of(image)
    return [how for how in ("reads", "writes") if (folder / how).exists()], (folder / "slow").read_text()


def test_a_fault_takes_the_place_of_another(image):
    breakable.set_fault(image, breakable.READS)
    assert switches(image) == (["reads"], "0\n")
    breakable.set_fault(image, breakable.SLOW, 64)
    assert switches(image) == ([], "524288\n"), "nbdkit counts bits"
    breakable.set_fault(image, breakable.WRITES)
    assert switches(image) == (["writes"], "0\n")
    breakable.set_fault(image, "")
    assert switches(image) == ([], "0\n")


def test_mounts_are_those_of_this_lab_in_their_order():
    found = mounts_below(Path("/var/lib/lab/x"), MOUNTS)
    assert [kind for _, kind in found] == ["overlay", "fuse", "ext4"]
    assert found[2][0].endswith("/root/srv/a")


def test_only_a_breakable_volume_breaks(image):
    class Lab:
        flag = ""
        hosts = {"kvm1": HostRecord(volumes=[Volume("/a", str(image), "", True), Volume("/b", "b.ext4", "")])}

        def host(self, name):
            return plan_shape(1, "trixie", "", "").hosts[0]

    volumes.break_disk(Lab(), "kvm1", "/a", breakable.WRITES)
    assert switches(image)[0] == ["writes"]
    for mountpoint in ("/b", "/c"):
        with pytest.raises(LabError, match="no volume that can be broken"):
            volumes.break_disk(Lab(), "kvm1", mountpoint, breakable.WRITES)
