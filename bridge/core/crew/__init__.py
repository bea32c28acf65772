"""The crew API: what it says, what is sent to it, and how often it may be called."""
