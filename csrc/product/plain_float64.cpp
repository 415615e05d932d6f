#include "../kernels/parts.h"
#include "plain.h"

namespace fastrnn::FASTRNN_ISA {

constexpr ProductKernels<double> plain_float64 = product_kernels<Vec<double>>();
constexpr ColumnKernels<double> columns_float64 = column_kernels<Vec<double>>();

}  // namespace fastrnn::FASTRNN_ISA
