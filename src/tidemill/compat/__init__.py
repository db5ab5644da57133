"""What other tools' files are written in, said in Tidemill's words."""
