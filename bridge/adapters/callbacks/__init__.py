"""Callback URLs: signed POSTs to permitted addresses."""
