# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS between hosts: who gets in, what goes over the wire, and certificates that end."""

from __future__ import annotations

import datetime
import re
import shlex
from pathlib import Path
from typing import Any, Dict, List

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from .fleet import Lab, Task, answers, guest, until
from .wire import reading

HOSTS = ("kvm1", "kvm2", "kvm3")
ADDRESSES = {"kvm1": "10.77.0.11", "kvm2": "10.77.0.12", "kvm3": "10.77.0.13"}
SERVER = "/etc/pki/libvirt/servercert.pem"
SITE = "kvmops.fleet.site"


def answer(lab: Lab, host: str, to: str, folder: str = "") -> str:
    """What libvirt on `to` says of itself over TLS; empty when the host is not let in."""
    uri = "qemu+tls://%s/system%s" % (to, "?pkipath=" + folder if folder else "")
    return lab.virsh(host, "-c", uri, "hostname", check=False)


def test_peers_get_in_by_name_and_by_address(lab: Lab) -> None:
    for host in HOSTS:
        for peer in set(HOSTS) - {host}:
            assert (answer(lab, host, peer), answer(lab, host, ADDRESSES[peer])) == (peer, peer)


# Client certificates in folders of their own: the host's, none, QEMU's, and one of another CA that says it is the host.
OUTSIDERS = """
set -eu
rm -rf /root/tls; mkdir -p /root/tls/own /root/tls/none /root/tls/qemu /root/tls/other; cd /root/tls
for folder in *; do cp /etc/pki/CA/cacert.pem "$folder"; done
cp /etc/pki/libvirt/clientcert.pem /etc/pki/libvirt/private/clientkey.pem own
cp /etc/pki/qemu/client-cert.pem qemu/clientcert.pem; cp /etc/pki/qemu/client-key.pem qemu/clientkey.pem
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=elsewhere -days 2
cat ca.pem >> other/cacert.pem
openssl req -new -newkey rsa:2048 -nodes -keyout other/clientkey.pem -out other.csr -subj /O=kvmops.fleet/CN=kvm1
echo extendedKeyUsage=clientAuth > usage
openssl x509 -req -in other.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile usage -days 2 -out other/clientcert.pem
"""


def test_who_has_no_certificate_of_a_member_is_refused(lab: Lab) -> None:
    lab.sh("kvm1", "sh", "-c", OUTSIDERS)
    try:
        let_in = {kind: answer(lab, "kvm1", "kvm2", "/root/tls/" + kind) for kind in ("own", "none", "qemu", "other")}
        assert let_in == {"own": "kvm2", "none": "", "qemu": "", "other": ""}
        # libvirt's own client keeps back a certificate that the server did not ask for.
        insist = "openssl s_client -connect kvm2:16514 -cert clientcert.pem -key clientkey.pem < /dev/null"
        lab.sh("kvm1", "sh", "-c", "cd /root/tls/other; " + insist, check=False)
        said = lab.sh("kvm2", "journalctl", "--unit=libvirtd", "--output=cat", "--lines=40")
        for reason in ("No certificate was found", "not on the list of allowed clients", "hasn't got a known issuer"):
            assert reason in said, said
    finally:
        lab.sh("kvm1", "rm", "-rf", "/root/tls")


def test_keys_are_read_by_those_who_need_them_and_nobody_else(lab: Lab) -> None:
    libvirts, qemus = "/etc/pki/libvirt/private/serverkey.pem", "/etc/pki/qemu/server-key.pem"
    try_it = "for user in libvirt-qemu nobody; do runuser -u $user -- test -r %s && echo $user; done; true"
    for host in HOSTS:
        assert lab.sh(host, "sh", "-c", try_it % libvirts).split() == []
        assert lab.sh(host, "sh", "-c", try_it % qemus).split() == ["libvirt-qemu"]
        assert lab.sh(host, "stat", "--format=%a %U", libvirts, qemus).split("\n")[:2] == ["600 root", "640 root"]


def test_a_move_is_encrypted_when_asked_for_and_memory_can_be_read_on_the_wire_when_not(clean: Lab) -> None:
    marker = "kvmops.plain_text_of_web1"
    clean.one("kvm1", "kvm_domain", **guest("web1", 101, cmdline=" ".join([marker] * 20)))
    until(lambda: answers(clean, 101), 60, "web1 answers")
    seen: Dict[str, Dict[str, int]] = {}
    for here, there, tls in (("kvm1", "kvm3", True), ("kvm3", "kvm1", False)):
        with reading(clean, marker) as wire:
            moved = clean.one(here, "kvm_migrate", name="web1", host=there, tls=tls)
        assert moved["transport"] == ("tls" if tls else "tcp")
        assert ("VIR_MIGRATE_TLS" in moved["flags"]) is tls
        assert wire["bytes"] > moved["metrics"]["memory_bytes"] and wire["lost"] == 0, wire
        seen["tls" if tls else "tcp"] = wire
    assert seen["tls"]["marked"] == 0 and seen["tcp"]["marked"] > 0, seen
    assert answers(clean, 101)


def test_a_host_without_certificates_is_named_before_anything_moves(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **guest("web1", 101))
    clean.sh("kvm2", "mv", "/etc/pki/qemu", "/etc/pki/qemu.away")
    try:
        (refused,) = clean.play(
            "kvm1", [Task("kvm_migrate", {"name": "web1", "host": "kvm2", "tls": True}, may_fail=True)]
        )
    finally:
        clean.sh("kvm2", "mv", "/etc/pki/qemu.away", "/etc/pki/qemu")
    assert refused["failed"] and [concern["id"] for concern in refused["concerns"]] == ["tls-certificates-missing"]
    assert "kvm2 has no /etc/pki/qemu/ca-cert.pem" in refused["msg"] and clean.owners("web1", HOSTS) == ["kvm1"]


def test_certificates_that_end_are_renewed_and_guests_run_on(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **guest("web1", 101))
    clean.one("kvm2", "kvm_domain", **guest("web2", 102))  # a daemon without guests ends when idle
    was = {host: (ends(clean, host), daemon(clean, host)) for host in HOSTS}
    process = clean.sh("kvm1", "cat", "/run/libvirt/qemu/web1.pid")
    expire(clean, "kvm1")
    clean.sh("kvm1", "systemctl", "restart", "libvirtd.service", check=False)
    assert answer(clean, "kvm2", "kvm1") == "", "libvirt took a certificate that has ended"

    told = clean.playbook(SITE, "-e", "hypervisor_tls_renew_days=400 hypervisor_tls_valid_days=500")
    assert all(told["stats"][host]["changed"] for host in HOSTS)
    for host in HOSTS:
        assert ends(clean, host) > was[host][0]
        assert answer(clean, HOSTS[HOSTS.index(host) - 1], host) == host
    assert daemon(clean, "kvm2") == was["kvm2"][1], "the daemon was restarted where reading the certificate was enough"
    assert clean.sh("kvm1", "cat", "/run/libvirt/qemu/web1.pid") == process and clean.state("kvm1", "web1") == "running"
    again = clean.playbook(SITE)
    assert {host: again["stats"][host]["changed"] for host in HOSTS} == dict.fromkeys(HOSTS, 0)


def ends(lab: Lab, host: str) -> datetime.datetime:
    """When the certificate that the daemon shows to others ends."""
    ask = "openssl s_client -connect localhost:16514 < /dev/null 2> /dev/null | openssl x509 -noout -enddate"
    said = lab.sh(host, "sh", "-c", ask).strip().partition("=")[2]
    return datetime.datetime.strptime(said, "%b %d %H:%M:%S %Y %Z")


def daemon(lab: Lab, host: str) -> str:
    """The process that answers now; woken first, as an idle daemon ends."""
    lab.virsh(host, "version")
    return lab.sh(host, "systemctl", "show", "--value", "--property=MainPID", "libvirtd.service").strip()


def authority(lab: Lab) -> Path:
    (folder,) = re.findall(r'hypervisor_tls_ca_dir: "([^"]+)"', lab.inventory.read_text(encoding="utf-8"))
    return Path(folder)


def expire(lab: Lab, host: str) -> None:
    """Give the host the certificate it has, as it would be a day after its end."""
    key = serialization.load_pem_private_key((authority(lab) / "ca.key").read_bytes(), password=None)
    had = x509.load_pem_x509_certificate(lab.sh(host, "cat", SERVER).encode())
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(had.issuer, had.subject, had.public_key(), had.serial_number + 1)
    made = made.not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(now - datetime.timedelta(days=1))
    for extension in had.extensions:
        made = made.add_extension(extension.value, extension.critical)
    text = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]
    lab.sh(host, "sh", "-c", "echo %s > %s" % (shlex.quote(text.strip()), SERVER))


def failures(told: Dict[str, Any]) -> List[str]:
    return [
        result["msg"]
        for play in told["plays"]
        for task in play["tasks"]
        for result in task["hosts"].values()
        if result.get("failed")
    ]


def test_hosts_of_another_ca_are_all_named_and_none_is_changed(lab: Lab, tmp_path: Path) -> None:
    told = lab.playbook(SITE, "-e", "hypervisor_tls_ca_dir=%s/ca" % tmp_path, check=False)
    assert told["rc"] != 0 and not (tmp_path / "ca").exists()
    said = failures(told)
    assert sorted(words.partition(":")[0] for words in said) == sorted(HOSTS)
    assert all("hypervisor_tls_replace_ca" in words and "none yet" in words for words in said)
    assert {host: told["stats"][host]["changed"] for host in HOSTS} == dict.fromkeys(HOSTS, 0)


def test_ssh_closes_the_port_and_tls_opens_it_again(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **guest("web1", 101))
    process = clean.sh("kvm1", "cat", "/run/libvirt/qemu/web1.pid")
    clean.playbook(SITE, "-e", "hypervisor_transport=ssh")
    assert [answer(clean, "kvm2", host) for host in HOSTS] == ["", "", ""]
    listening = [clean.sh(host, "ss", "--listening", "--no-header", "--tcp", "sport = :16514") for host in HOSTS]
    assert listening == ["", "", ""]
    clean.playbook(SITE)
    assert [answer(clean, "kvm2", host) for host in HOSTS] == list(HOSTS)
    assert clean.sh("kvm1", "cat", "/run/libvirt/qemu/web1.pid") == process and clean.state("kvm1", "web1") == "running"
