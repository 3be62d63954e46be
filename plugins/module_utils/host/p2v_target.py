# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in the pool for the images of a run: finished ones, unfinished ones, room."""

from __future__ import annotations

import glob
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_image import (
    MANIFEST,
    Image,
    Paths,
    manifest_at,
    marks_of,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import Target


def look(paths: Paths, users: Mapping[str, Sequence[str]]) -> Tuple[Target, Dict[str, Image]]:
    """The target of one disk, and what of an image is there already, by "finished" or "part". users: path -> domains."""
    finished = manifest_at(paths.manifest) if os.path.lexists(paths.image) else None
    part = manifest_at(paths.part_manifest) if os.path.lexists(paths.part) else None
    images = {}
    if finished is not None:
        images["finished"] = Image(paths, paths.image, str(finished.head.get("format")), finished)
    if part is not None:
        images["part"] = Image(paths, paths.part, str(part.head.get("format")), part)
    return (
        Target(
            path=paths.image,
            exists=os.path.lexists(paths.image),
            head=finished.head if finished else None,
            untouched=finished is not None and marks_of(paths.image) == finished.head.get("marks"),
            part_head=part.head if part else None,
            used_by=tuple(users.get(paths.image, ())),
        ),
        images,
    )


def free_bytes(folder: str) -> int:
    try:
        room = os.statvfs(folder)
    except OSError as error:
        raise HostError("look at the folder of the pool, %s" % folder, "this host", str(error), "Start the pool.")
    return room.f_bavail * room.f_frsize


def finished_heads(folder: str, name: str, image_format: str) -> List[Dict[str, Any]]:
    """Heads of the manifests of finished images of that name whose image is there."""
    found = []
    for path in sorted(
        glob.glob(os.path.join(glob.escape(folder), "%s-*.%s%s" % (glob.escape(name), image_format, MANIFEST)))
    ):
        manifest = manifest_at(path)
        if manifest is not None and manifest.head.get("complete") and os.path.lexists(path[: -len(MANIFEST)]):
            found.append(dict(manifest.head, path=path[: -len(MANIFEST)]))
    return found
