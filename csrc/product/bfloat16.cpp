#include "bfloat16.h"
#include "../kernels/parts.h"
#include "../kernels/probes.h"

namespace fastrnn::FASTRNN_ISA {

#ifdef FASTRNN_DOT_BFLOAT16
constexpr ProductKernels<float> bfloat16_dot_float32 = bfloat16::kernels;
double bfloat16_dot_probe(Index iterations, float* sink) { return probe_dots<bfloat16::Format>(iterations, sink); }
#else
constexpr ProductKernels<float> bfloat16_float32 = bfloat16::kernels;
constexpr ProductKernels<double> bfloat16_float64 = {};
#endif

}  // namespace fastrnn::FASTRNN_ISA
