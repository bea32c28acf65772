"""Rules of HTTP that need no socket."""
