#include "../kernels/parts.h"
#include "plain.h"

namespace fastrnn::FASTRNN_ISA {

constexpr ProductKernels<float> plain_float32 = product_kernels<Vec<float>>();
constexpr ColumnKernels<float> columns_float32 = column_kernels<Vec<float>>();

}  // namespace fastrnn::FASTRNN_ISA
