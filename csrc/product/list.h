// THE list of weight formats: how weights are kept, and multiplied with rows of float32 or float64. CONTRIBUTING.md
// tells what else a new format needs.
//
// X(name)
//   name   enumerator of fastrnn::WeightFormat; csrc/product/<name>.h has its packing and its product, and
//          <name>_float32 and <name>_float64 are its ProductKernels for rows of either type, empty if it has none
//
//   plain  numbers of the type of the rows, the only ones that can be trained. It is the first, which stands for no
//   word
//   bfloat16   float32 without its last 16 bits
//   int8       integers of eight bits, times a scale for each row of W
#pragma once

#define FASTRNN_WEIGHT_FORMATS(X) X(plain) X(bfloat16) X(int8)
