from __future__ import annotations

from pathlib import Path

import pytest
from kvmlab import paths, state
from kvmlab.errors import LabError
from kvmlab.images import Images
from kvmlab.run import Process
from kvmlab.shape import plan_shape
from kvmlab.state import Fault, Volume, describe, load, require


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "STATE", tmp_path)
    images = Images(
        {"bookworm": Path("/r/b"), "trixie": Path("/r/t")},
        {"bookworm": Path("/p/b"), "trixie": Path("/p/t")},
        Path("/g"),
    )
    return describe("x", plan_shape(2, "bookworm,trixie", "nfs", "200mbit"), images, bare=True)


def test_a_record_reads_back_as_it_was_written(lab):
    lab.hosts["kvm1"].init = lab.hosts["kvm1"].nspawn = Process(2**22 + 1, 5)
    lab.hosts["kvm1"].volumes.append(Volume("/small", "/image", "/dev/loop9"))
    lab.faults.append(Fault("cut", "kvm1", "all both kvm2", "for people"))
    lab.save()
    back = load("x")
    assert back == lab
    assert back.shape.link == "200mbit"
    assert back.faults[0].text == "for people"


def test_every_host_stands_on_the_root_of_its_release_and_gets_its_packages(lab):
    assert lab.lowers == {"kvm1": ["/r/b"], "kvm2": ["/r/t"], "nas": ["/r/b"]}
    assert lab.binds["kvm2"] == {"/srv/lab/apt": "/p/t", "/srv/lab/guest": "/g"}


def test_what_is_not_there_is_said_with_the_way_to_get_it(lab):
    assert load("y") is None
    with pytest.raises(LabError, match="no lab 'y'"):
        require("y")
    with pytest.raises(LabError, match="its hosts: kvm1 kvm2 nas"):
        lab.host("kvm9")
    with pytest.raises(LabError, match="power-on kvm1 --name x"):
        lab.running("kvm1")


def test_a_broken_record_names_the_way_out(lab):
    lab.save()
    state.LabPaths("x").record.write_text("{")
    with pytest.raises(LabError, match="lab down --name x"):
        load("x")
