"""Proximal Newton, for a penalty with an L1 part."""
