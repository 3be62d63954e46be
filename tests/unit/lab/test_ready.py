from __future__ import annotations

from pathlib import Path

import pytest
from kvmlab import ready
from kvmlab.images import Images
from kvmlab.shape import plan_shape


def images(**roots: str) -> Images:
    return Images({r: Path(name) for r, name in roots.items()}, {r: Path(f"repo-{r}") for r in roots}, Path("guest"))


BOTH = images(bookworm="b1", trixie="t1")
THREE = ready.made_of(plan_shape(3, "bookworm,bookworm,trixie"), BOTH)


def test_the_first_hosts_of_a_larger_snapshot_serve_a_lab_that_needs_fewer_images():
    assert ready.serves(THREE, plan_shape(2, "bookworm"), images(bookworm="b1"))


def test_shared_storage_makes_no_difference():
    assert ready.serves(THREE, plan_shape(3, "bookworm,bookworm,trixie", "nfs"), BOTH)


@pytest.mark.parametrize("other", [images(bookworm="b2", trixie="t1"), images(bookworm="b1", trixie="t2")])
def test_hosts_on_other_images_do_not_serve(other):
    assert not ready.serves(THREE, plan_shape(3, "bookworm,bookworm,trixie"), other)


def test_hosts_of_another_order_do_not_serve():
    assert not ready.serves(THREE, plan_shape(2, "bookworm,trixie"), BOTH)


def test_the_key_follows_the_roles(tmp_path, monkeypatch):
    monkeypatch.setattr(ready, "REPOSITORY", tmp_path)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/site.yml").write_text("site")
    (tmp_path / "roles/one/files").mkdir(parents=True)
    before = ready.key()
    (tmp_path / "roles/one/files/binary").write_bytes(b"\xff\0")
    assert ready.key() != before
    after = ready.key()
    (tmp_path / "roles/one/files/binary").rename(tmp_path / "roles/one/files/other")
    assert ready.key() not in (before, after)
