"""What to do next, decided purely: time and data are arguments, the answer is a value that `flow` carries out."""
