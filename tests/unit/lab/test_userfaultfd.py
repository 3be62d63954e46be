from __future__ import annotations

import pytest
from kvmlab import userfaultfd
from kvmlab.shape import plan_shape


class Lab:
    """What allow() and forbid() ask of a lab."""

    flag = ""

    def __init__(self, name, releases):
        self.name, self.shape = name, plan_shape(2, releases, "", "")


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Commands that were run in hosts. The setting is a file, and 0 at first."""
    commands = []
    monkeypatch.setattr(userfaultfd, "SETTING", tmp_path / "setting")
    monkeypatch.setattr(userfaultfd, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(userfaultfd, "DEVICE", tmp_path)
    monkeypatch.setattr(userfaultfd, "inside", lambda lab, host, words: [host, *words])
    monkeypatch.setattr(userfaultfd, "run", commands.append)
    monkeypatch.setattr(userfaultfd, "all_names", lambda base: ["one", "two"])
    userfaultfd.SETTING.write_text("0\n")
    return commands


def setting():
    return userfaultfd.SETTING.read_text()


def test_the_last_lab_that_lets_go_gives_the_setting_back(ran):
    one, two = Lab("one", "bookworm"), Lab("two", "bookworm")
    userfaultfd.allow(one)
    userfaultfd.allow(two)
    assert setting() == "1" and userfaultfd.is_asked_by("one")
    userfaultfd.forbid(one)
    assert setting() == "1" and not userfaultfd.is_asked_by("one")
    userfaultfd.let_go("two")
    assert setting() == "0" and not userfaultfd.RECORD.exists()


def test_a_lab_that_is_gone_asks_for_nothing(ran):
    userfaultfd.allow(Lab("gone", "bookworm"))
    userfaultfd.let_go("one")
    assert setting() == "0"


def test_hosts_whose_libvirt_opens_the_device_need_no_setting(ran):
    userfaultfd.allow(Lab("one", "trixie"))
    assert setting() == "0\n" and not userfaultfd.RECORD.exists()
    assert [words[0] for words in ran] == ["kvm1", "kvm2"] and all("mknod" in words[-1] for words in ran)


def test_one_that_was_on_before_stays_on(ran):
    userfaultfd.SETTING.write_text("1\n")
    userfaultfd.allow(Lab("one", "bookworm,trixie"))
    userfaultfd.let_go("one")
    assert setting() == "1"
