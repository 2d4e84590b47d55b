"""The modes of the program, each a short story over the other rooms."""
