"""PyTorch's modules, for those who have PyTorch: nothing else in fastrnn needs it.

nets  what to_torch makes of nets
"""
