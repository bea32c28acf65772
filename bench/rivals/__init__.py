"""What a user would otherwise write: the programs that the bridge is compared with."""
