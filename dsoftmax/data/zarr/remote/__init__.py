"""Stores behind a URL: opened with options, requests repeated, refusals explained."""
