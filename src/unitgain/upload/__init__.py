"""Weights & Biases: run directories uploaded by a process apart, while they train or later.

Training writes its own files and never waits for a server. A process of its own reads those files and
tells W&B; what it can't, ``unitgain sync`` tells later. It is the only room that imports wandb, and
only in that process.
"""

from unitgain.upload._identity import (
    Identity,
    identify,
    is_uploaded,
    must_be_logged_in,
    wandb_mode,
    wants_upload,
)
from unitgain.upload._uploader import Report, Uploader, announce, near, note, uploading

__all__ = [
    "Identity",
    "Report",
    "Uploader",
    "announce",
    "identify",
    "is_uploaded",
    "must_be_logged_in",
    "near",
    "note",
    "uploading",
    "wandb_mode",
    "wants_upload",
]
