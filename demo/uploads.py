"""The files that visitors send: which are theirs, and for how long they stay."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from gradio.utils import get_upload_folder

from product_match_client.errors import BadRequestError

# Uploads and what is made of them are deleted at this age, looked for this often, in seconds.
KEPT_S = 3600
LOOK_S = 1800
# What Gradio has lost sight of: uploads that broke off, folders without a file, and an empty file
# for each action that takes one.
LOST_S = 2 * KEPT_S
EMPTY_S = 60
NO_UPLOAD = "no file that was uploaded to the page within the last hour; choose it again"


def uploaded(path: object) -> Path:
    """The file of an upload, whatever a request says that it is.

    Raises:
        BadRequestError: it is not below the folder of uploads, or there no longer.
    """
    folder = Path(get_upload_folder()).resolve()
    try:
        # A path that leads out of the folder, by a link too, is the one that it leads to.
        file = Path(str(path)).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise BadRequestError(NO_UPLOAD) from None
    if not file.is_relative_to(folder) or not file.is_file():
        raise BadRequestError(NO_UPLOAD)
    return file


@dataclass
class Held:
    """What a folder holds.

    Attributes:
        size: bytes on the disk.
        files: how many, with folders.
    """

    size: int = 0
    files: int = 0


def tidied(folder: Path) -> Held:
    """Delete what is lost in the folder of uploads, and tell what is left.

    Others may delete files at the same time.
    """
    held = Held()
    now = time.time()
    for root, folders, names in os.walk(folder, topdown=False):
        for name in (*names, *folders):
            path = os.path.join(root, name)
            try:
                found = os.lstat(path)
                age = now - found.st_ctime
                if name in folders:
                    is_lost = age > LOST_S and not os.listdir(path)
                else:
                    is_empty = not found.st_size and root == str(folder)
                    is_lost = age > (EMPTY_S if is_empty else LOST_S)
                if is_lost:
                    (os.rmdir if name in folders else os.remove)(path)
                    continue
            except FileNotFoundError:
                continue
            held.size += 512 * found.st_blocks
            held.files += 1
    return held
