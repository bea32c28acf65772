"""Steps that pick up what a process or a POST left open."""
