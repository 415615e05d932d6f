"""The ``fastrnn`` command, on top of everything; nothing else knows it, nor how arguments are read.

main       what runs: the parser of all commands, and what becomes of errors and Ctrl-C
arguments  how a command is declared, and the numbers in its arguments
output     the standard output, where nobody may read it any more
imported   models of others: what the importers say of them, in the words of the command line

And a file for each command: training, which has demo and train, sample, history, gradients, inspect, compare, convert,
info.
"""
