"""FasterSeg: searched real-time segmentation networks, their engine and their deployment."""

__version__ = "0.1.0"
