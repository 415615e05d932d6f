"""A character-level language model: the application behind the ``fastrnn`` command.

text        where the text comes from, and how it becomes tokens
model       one recurrent layer and a linear decoder: predictions, loss and gradients
settings    what a run is asked to do
train       truncated back-propagation through time, with Adam
checkpoint  the model file: safetensors, written atomically, checked when read
sample      text from a model
baselines   what a model must beat: uniform, unigram and bigram
report      what is seen of a run while it goes on
history     what was written on the way
session     the runs behind ``fastrnn train`` and ``fastrnn demo``
"""
