from __future__ import annotations

import pytest
from kvmlab.cache import key_of, read_list
from kvmlab.cli import parser
from kvmlab.guest import load_order
from kvmlab.paths import LAB_DIR
from kvmlab.processes import domain_of
from kvmlab.status import table


def test_modules_are_loaded_after_what_they_need_and_once():
    depends = {"net": ["virtio", "failover"], "failover": [], "virtio": ["ring"], "ring": [], "blk": ["virtio"]}
    assert load_order(["net", "blk", "ext4"], depends) == ["ring", "virtio", "failover", "net", "blk"]


def test_a_key_changes_with_every_part_and_with_their_borders():
    assert key_of(["a", "b"]) != key_of(["ab"])
    assert key_of(["a", "b"]) == key_of(["a", "b"])


def test_a_list_has_comments_and_lines_for_one_release(tmp_path):
    path = tmp_path / "list"
    path.write_text("# why\none\ntwo [trixie]\nthree # because\n\n")
    assert read_list(path, "bookworm") == ["one", "three"]
    assert read_list(path, "trixie") == ["one", "two", "three"]


@pytest.mark.parametrize("name", ["packages.txt", "bare-packages.txt", "repo-packages.txt"])
def test_our_lists_are_sorted_and_name_nothing_twice(name):
    names = [line.split()[0] for line in (LAB_DIR / name).read_text().splitlines() if not line.startswith("#")]
    assert names == sorted(set(names))


def test_the_domain_of_a_qemu_is_read_from_its_command_line():
    assert domain_of([b"/usr/bin/qemu-system-x86_64", b"-name", b"guest=web1,debug-threads=on", b"-S"]) == "web1"
    assert domain_of([b"virsh", b"-name", b"web1"]) == ""


def test_a_command_after_two_dashes_keeps_its_options():
    arguments = parser().parse_args(["exec", "kvm1", "--name", "x", "--", "ls", "--name", "y"])
    assert (arguments.host, arguments.name, arguments.command) == ("kvm1", "x", ["ls", "--name", "y"])


@pytest.mark.parametrize("words", [["fault", "cut", "kvm1"], ["fault"], ["up", "--hosts", "many"], ["exec", "kvm1"]])
def test_incomplete_commands_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    assert "usage" in capsys.readouterr().err


def test_columns_are_as_wide_as_their_widest_cell():
    assert table([("A", "B"), ("long", "x")]) == ["A     B", "long  x"]


@pytest.mark.parametrize(
    "words",
    [
        "up --hosts 2 --os trixie --bare --link 100mbit --shared-storage nfs --name a",
        "down --name a",
        "status",
        "exec --name a kvm1 -- ls -l",
        "ns -- fping 10.77.0.101",
        "fault kill-qemu --name a kvm1 web1",
        "fault cut kvm1 controller --ports data --one-way",
        "fault heal",
        "volume kvm1 /srv/small --mib 100",
    ],
)
def test_commands_are_understood(words):
    assert callable(parser().parse_args(words.split()).act)
