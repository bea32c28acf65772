"""The ground floor: pure decisions on values; no I/O, no clock, no chance, standard library only."""
