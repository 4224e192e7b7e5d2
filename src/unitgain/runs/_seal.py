"""A checksum that travels inside the checkpoint file.

``torch.save`` writes a zip archive, which ends with an empty comment and the two bytes of its
length. The seal is that comment: the SHA-256 of the archive as it was without one. The result is a
single file, so one rename carries both, and it is still a zip archive that
``torch.load(path, weights_only=True)`` reads as it is.
"""

import hashlib

MARK = b"unitgain sha256:"
SEAL_SIZE = len(MARK) + 64
_END_RECORD = b"PK\x05\x06"
_END_SIZE = 22
_LENGTH_SIZE = 2


def seal(payload: bytes) -> bytes:
    """The same archive with its checksum as the archive's comment.

    Args:
        payload: what ``torch.save`` wrote.

    Raises:
        ValueError: ``payload`` isn't a zip archive without a comment.
    """
    if not _ends_bare(payload):
        raise ValueError("only a zip archive without a comment, as torch.save writes, is sealed")
    return payload[:-_LENGTH_SIZE] + _comment(payload)


def open_sealed(sealed: bytes) -> bytes:
    """The archive as it was before `seal`, after checking every byte.

    Raises:
        ValueError: ``sealed`` is empty, cut short, changed or never was sealed, as the text says.
    """
    if not sealed:
        raise ValueError("is empty")
    size = _LENGTH_SIZE + SEAL_SIZE
    comment = sealed[-size:]
    if not comment[_LENGTH_SIZE:].startswith(MARK):
        if _ends_bare(sealed):
            raise ValueError("has no checksum: something else wrote it")
        raise ValueError("is cut short or not a checkpoint: the checksum at its end is missing")
    payload = sealed[:-size] + bytes(_LENGTH_SIZE)
    if not _ends_bare(payload) or comment != _comment(payload):
        raise ValueError("is damaged: its content doesn't match its checksum")
    return payload


def _ends_bare(data: bytes) -> bool:
    end = data[-_END_SIZE:]
    return end.startswith(_END_RECORD) and len(end) == _END_SIZE and end.endswith(b"\0\0")


def _comment(payload: bytes) -> bytes:
    digest = hashlib.sha256(payload).hexdigest().encode()
    return SEAL_SIZE.to_bytes(_LENGTH_SIZE, "little") + MARK + digest
