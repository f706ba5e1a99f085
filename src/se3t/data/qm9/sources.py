"""Where the raw files of QM9 are. Imports no torch.

The raw XYZ files come first, although they hold no bonds: their checksum is published, and they are what the authors of
the data published. The SDF of DeepChem was made from them and holds bonds, but has no published checksum; its first
download is pinned. Bonds of both agree for nearly all molecules: `se3t data prepare` says how each were found.
"""

from __future__ import annotations

from se3t.data.download import Source

RAW_SOURCES = (
    Source(
        url="https://ndownloader.figshare.com/files/3195389",
        name="dsgdb9nsd.xyz.tar.bz2",
        sha256="3a63848ac80691bdb8d41834b575afad345b9300d7a2db0c38adb7f6eaa8360c",
    ),
    Source(
        url="https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/qm9.zip",
        name="qm9.zip",
    ),
)
"""In the order in which they are tried. Of the list of uncharacterized molecules and the energies of single atoms, the
numbers are part of this package."""
