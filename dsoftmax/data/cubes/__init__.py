"""Cubes: arrays with named dimensions, whose pixels are rows and whose bands are features."""
