"""What a layer and its calls are made of: private, and known to the library only.

spec         what a layer is, as plain data: sizes, names and shapes of parameters
own          what each unit has for itself: parameters
activations  those that are data, and other options of cells
initial      the values that parameters begin with
formats      what a frozen layer keeps of its weights, if it is fewer bits
calibration  integers that are rounded for what they will be multiplied with
weights      parameters as the kernels know them: packed and kept, frozen
packed       the same of a format of fewer bits: nothing but what is packed
noise        dropout and zoneout: what is drawn in training
steps        the steps of sequences, and which of them count
states       those that a caller gives, and how wide the kernels have them
arguments    what else a caller gives a call, and what is wrong with it
"""
