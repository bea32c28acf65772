"""Cost and gain of polling: the real policy code in simulated histories, compared with other ways to poll."""
