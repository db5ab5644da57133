"""Workers as processes of this machine, forked from a server that has imported much and run nothing."""
