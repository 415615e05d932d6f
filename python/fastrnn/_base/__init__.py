"""What all of the library stands on: private, but for the command, which asks startup how it was started.

startup  where this process is the command; imported before all else, NumPy too
threads  how threadpoolctl gets to see fastrnn's threads
checks   of what users pass, in their words
options  of whatever is made with some, checked also when they are set later
memory   which arrays share theirs
uses     which arrays are parameters of modules
version  of the library
parts    work on large arrays, a part at a time
"""
