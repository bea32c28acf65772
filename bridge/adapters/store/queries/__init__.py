"""The store's statements, a file for each subject."""
