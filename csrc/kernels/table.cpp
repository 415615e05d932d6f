// The table of one ISA.
#include "arrays.h"
#include "fingerprint.h"
#include "math.h"
#include "parts.h"
#include "probes.h"

#define FASTRNN_STRING_(text) #text
#define FASTRNN_STRING(text) FASTRNN_STRING_(text)
#define FASTRNN_TABLE FASTRNN_CONCATENATE_(kernel_table_, FASTRNN_ISA)
#define FASTRNN_CONCATENATE_(a, b) FASTRNN_CONCATENATE(a, b)

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <class V, V (*function)(V)>
void map(const typename V::Real* in, typename V::Real* out, Index n) {
    for (Index i = 0; i < n; i += V::kLanes) {
        const Index rest = smaller(V::kLanes, n - i);
        store_part(function(load_part<V>(in + i, rest)), out + i, rest);
    }
}

template <class Real>
constexpr MathKernels<Real> math_kernels(decltype(MathKernels<Real>::activation) activation) {
    using V = Vec<Real>;
    return {map<V, exp<Real>>, map<V, tanh<Real>>, map<V, sigmoid<Real>>, activation};
}

template <class Real>
constexpr int kLanesLog2 = [] {
    int log2 = 0;
    while (1 << log2 < Vec<Real>::kLanes) ++log2;
    return log2;
}();

constexpr ArrayKernels<float> arrays_float32 = array_kernels<Vec<float>>();
constexpr ArrayKernels<double> arrays_float64 = array_kernels<Vec<double>>();

}  // namespace
}  // namespace FASTRNN_ISA

#define FASTRNN_FLOAT32(name) &FASTRNN_ISA::name##_float32,
#define FASTRNN_FLOAT64(name) &FASTRNN_ISA::name##_float64,

extern const KernelTable FASTRNN_TABLE;
constexpr KernelTable FASTRNN_TABLE = {
    FASTRNN_STRING(FASTRNN_ISA),
    {FASTRNN_ISA::kLanesLog2<float>,
     {FASTRNN_WEIGHT_FORMATS(FASTRNN_FLOAT32)},
     &FASTRNN_ISA::columns_float32,
     &FASTRNN_ISA::arrays_float32,
     &FASTRNN_ISA::cells_float32,
     FASTRNN_ISA::linear_float32,
     FASTRNN_ISA::math_kernels<float>(FASTRNN_ISA::activation_float32)},
    {FASTRNN_ISA::kLanesLog2<double>,
     {FASTRNN_WEIGHT_FORMATS(FASTRNN_FLOAT64)},
     &FASTRNN_ISA::columns_float64,
     &FASTRNN_ISA::arrays_float64,
     &FASTRNN_ISA::cells_float64,
     FASTRNN_ISA::linear_float64,
     FASTRNN_ISA::math_kernels<double>(FASTRNN_ISA::activation_float64)},
    FASTRNN_ISA::fingerprint,
    {{FASTRNN_ISA::probe_fma}, FASTRNN_ISA::probe_read},
};

}  // namespace fastrnn
