"""Voxicon: every voxel has a word. Research software, not a medical device."""

__version__ = "0.1.0"
