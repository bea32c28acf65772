"""Steps that maintain the process, the store, and the crews."""
