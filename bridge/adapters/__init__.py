"""Adapters: one file for each technology and direction; packages do not import each other."""
