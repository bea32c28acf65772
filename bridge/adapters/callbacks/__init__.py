"""Callback URLs: signed POSTs to addresses that may be called."""
