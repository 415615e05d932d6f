// The weights of a layer in another format than plain.
#pragma once

#include "contract.h"
#include "packed.h"

namespace fastrnn {

// Those in an object; null for what is none.
FormatWeights* format_weights_in(PyObject* object);

// What these weights are packed in for calls by this table: anew, if they were packed for another one, with biases and
// vectors as the call has them. ValueError where they are of another cell, or have other shapes.
std::shared_ptr<const Packed> packed_for(const KernelTable& table, const Inputs& in, FormatWeights& weights);

}  // namespace fastrnn
