#include "int8.h"
#include "../kernels/parts.h"

namespace fastrnn::FASTRNN_ISA {

#ifdef FASTRNN_DOT_INT8
constexpr ProductKernels<float> int8_dot_float32 = int8::kernels;
#else
constexpr ProductKernels<float> int8_float32 = int8::kernels;
constexpr ProductKernels<double> int8_float64 = {};
#endif

}  // namespace fastrnn::FASTRNN_ISA
