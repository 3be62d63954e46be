from __future__ import annotations

import pytest
from kvmlab.errors import LabError
from kvmlab.sources import Source, for_release, machine_sources, parse_deb822, parse_one_line

DEB822 = """\
# comment
Types: deb deb-src
URIs: http://archive.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.test/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://archive.test/debian-security
Suites:
 bookworm-security
Components: main
"""


def test_deb822_gives_one_source_for_each_enabled_uri_and_suite():
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert parse_deb822(DEB822) == [
        Source("http://archive.test/debian", "bookworm", ("main", "contrib"), keyring),
        Source("http://archive.test/debian", "bookworm-updates", ("main", "contrib"), keyring),
        Source("http://archive.test/debian-security", "bookworm-security", ("main",), ""),
    ]


def test_one_line_sources_with_and_without_options():
    text = "deb http://a.test/debian bookworm main\n#deb http://b.test x main\ndeb-src http://a.test/debian bookworm main\n"
    text += "deb [ arch=amd64 signed-by=/k.gpg ] http://c.test stable main # why\n"
    assert parse_one_line(text) == [
        Source("http://a.test/debian", "bookworm", ("main",)),
        Source("http://c.test", "stable", ("main",), "/k.gpg"),
    ]


def test_another_release_comes_from_the_same_archives_and_never_from_third_parties():
    own = [
        Source("http://a.test/debian", "bookworm", ("main", "contrib")),
        Source("http://a.test/debian", "bookworm-updates", ("main",)),
        Source("http://a.test/debian", "bookworm-backports", ("main",)),
        Source(
            "http://a.test/debian-security",
            "bookworm-security",
            ("main",),
            "/usr/share/keyrings/debian-archive-keyring.gpg",
        ),
        Source("http://vendor.test/apt", "bookworm", ("main",), "/usr/share/keyrings/vendor.gpg"),
        Source("http://docker.test/debian", "bookworm", ("stable",)),
        Source("http://node.test", "nodistro", ("main",)),
    ]
    assert for_release(own, "bookworm", "trixie") == [
        "deb http://a.test/debian trixie main",
        "deb http://a.test/debian trixie-updates main",
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://a.test/debian-security trixie-security main",
    ]


def test_a_machine_without_debian_archives_is_told_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("KVMLAB_DEBIAN_MIRROR", raising=False)
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text('VERSION_CODENAME="noble"\n')
    (tmp_path / "apt/sources.list").write_text("deb http://ubuntu.test/ubuntu jammy main\n")
    with pytest.raises(LabError) as caught:
        machine_sources("bookworm", tmp_path)
    assert "KVMLAB_DEBIAN_MIRROR" in str(caught.value)


def test_a_machine_with_both_formats_uses_both(tmp_path, monkeypatch):
    monkeypatch.delenv("KVMLAB_DEBIAN_MIRROR", raising=False)
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    (tmp_path / "apt/sources.list").write_text("deb http://old.test/debian bookworm main\n")
    (tmp_path / "apt/sources.list.d/debian.sources").write_text(DEB822)
    assert machine_sources("trixie", tmp_path) == [
        "deb http://old.test/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://archive.test/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://archive.test/debian trixie-updates main",
        "deb http://archive.test/debian-security trixie-security main",
    ]
