"""Steps that look after the process, the store, and the crews."""
