"""Doors and ways out: one file per technology and direction, strangers to each other."""
