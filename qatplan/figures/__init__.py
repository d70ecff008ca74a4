"""Figures of sweeps and fits: for each, a pure function to a small frozen series, and a function that draws the series.

Import the module of one figure; this package itself loads nothing.
"""
