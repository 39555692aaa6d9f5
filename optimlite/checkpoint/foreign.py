"""Files that aren't checkpoints: what they are, by their first bytes, and what to do with them."""

from __future__ import annotations

NPZ = "this is a NumPy archive (.npz); `ol.save(path, **np.load(file))` makes a checkpoint of it"
TORCH = "this is a file of torch.save; `python -m optimlite convert FROM TO.safetensors` makes a checkpoint of it"
PICKLE = "this is a pickle, which may execute anything when it is read, and no checkpoint"
KINDS = {b"\x93NUMPY": "this is a NumPy array (.npy); `ol.save(path, x=np.load(file))` makes a checkpoint of it",
         b"\x89HDF\r\n": "this is an HDF5 file, which h5py reads, and no checkpoint",
         b"\x80\x02\x8a\x0a": TORCH, b"\x80\x02": PICKLE, b"\x80\x03": PICKLE, b"\x80\x04": PICKLE, b"\x80\x05": PICKLE}
ZIP = b"PK\x03\x04"
MEMBERS = (b"/data.pkl", b"/version", b"/byteorder", b"/.format_version")        # of torch's archives: one is the first


def kind(first: bytes) -> str | None:
    """What a file with an impossible header is, by its first 64 bytes; None if they don't tell."""
    if not first.startswith(ZIP):
        return next((text for magic, text in KINDS.items() if first.startswith(magic)), None)
    name = first[30:30 + int.from_bytes(first[26:28], "little")]
    if name.endswith(b".npy"):
        return NPZ
    return TORCH if name.endswith(MEMBERS) else "this is a zip archive, and no checkpoint"
