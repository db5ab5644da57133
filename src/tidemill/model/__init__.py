"""What things are: frozen values without I/O, clocks or drivers. Every other layer may import this one."""
