#include "int8.h"
#include "../kernels/parts.h"
#include "../kernels/probes.h"

namespace fastrnn::FASTRNN_ISA {

#ifdef FASTRNN_DOT_INT8
constexpr ProductKernels<float> int8_dot_float32 = int8::kernels;
double int8_dot_probe(Index iterations, float* sink) { return probe_dots<int8::Format>(iterations, sink); }
#else
constexpr ProductKernels<float> int8_float32 = int8::kernels;
constexpr ProductKernels<double> int8_float64 = {};
#endif

}  // namespace fastrnn::FASTRNN_ISA
