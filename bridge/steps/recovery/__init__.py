"""Steps that resume what a process or a POST left unfinished."""
