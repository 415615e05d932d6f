// The only translation unit compiled once per ISA, with FASTRNN_ISA naming it: one table of everything.
// The rules of this folder are in README.md beside this file.
#include "../kernel_table.h"

#include "math.h"

#include "../cells/gru.h"
#include "../cells/indrnn.h"
#include "../cells/lstm.h"
#include "../cells/mingru.h"
#include "../cells/rnn.h"

#include "backward.h"
#include "fingerprint.h"
#include "forward.h"
#include "probes.h"
#include "step.h"
#include "trace.h"

#define FASTRNN_STRING_(text) #text
#define FASTRNN_STRING(text) FASTRNN_STRING_(text)
#define FASTRNN_TABLE FASTRNN_CONCATENATE_(kernel_table_, FASTRNN_ISA)
#define FASTRNN_CONCATENATE_(a, b) FASTRNN_CONCATENATE(a, b)

namespace fastrnn {
namespace FASTRNN_ISA {
namespace {

template <template <class> class CellOf, class Real>
constexpr CellKernels<Real> cell_kernels() {
    CellKernels<Real> kernels{};
    kernels.tape_size = Forward<CellOf, Real>::tape_size;
    kernels.packed_size = Forward<CellOf, Real>::packed_size;
    kernels.forward_workspace = Forward<CellOf, Real>::workspace_size;
    kernels.backward_workspace = Backward<CellOf, Real>::workspace_size;
    kernels.forward = Forward<CellOf, Real>::run;
    kernels.backward = Backward<CellOf, Real>::run;
    kernels.trace = trace<CellOf, Real>;
    using Cell = CellOf<Vec<Real>>;
    if constexpr (Cell::kVectors == 0 && recurrent_gates<Cell>() == Cell::kGates &&
                  Cell::kForward[0].operand != kNothing) {
        kernels.step_workspace = Step<CellOf, Real>::workspace_size;
        kernels.step = Step<CellOf, Real>::run;
    }
    return kernels;
}

template <class Real>
void column_sums(const Real* rows, Index depth, Index n, bool goes_on, Real* sums, Real* rest) {
    column_sums<Vec<Real>>(rows, n, {0, n}, depth, goes_on, sums, rest);
}

template <class V, V (*function)(V)>
void map(const typename V::Real* in, typename V::Real* out, Index n) {
    for (Index i = 0; i < n; i += V::kLanes) {
        const Index rest = smaller(V::kLanes, n - i);
        store_part(function(load_part<V>(in + i, rest)), out + i, rest);
    }
}

template <class Real>
constexpr MathKernels<Real> math_kernels() {
    using V = Vec<Real>;
    return {map<V, exp<Real>>, map<V, tanh<Real>>, map<V, sigmoid<Real>>};
}

}  // namespace
}  // namespace FASTRNN_ISA

extern const KernelTable FASTRNN_TABLE;
constexpr KernelTable FASTRNN_TABLE = {
    FASTRNN_STRING(FASTRNN_ISA),
    FASTRNN_ISA::Vec<float>::kLanes,
    {
#define FASTRNN_KERNELS(enumerator, arithmetic, family, gates, states, planes, recurrent, vectors, learned) \
    FASTRNN_ISA::cell_kernels<FASTRNN_ISA::arithmetic, float>(),
        FASTRNN_CELLS(FASTRNN_KERNELS)
#undef FASTRNN_KERNELS
    },
    {
#define FASTRNN_KERNELS(enumerator, arithmetic, family, gates, states, planes, recurrent, vectors, learned) \
    FASTRNN_ISA::cell_kernels<FASTRNN_ISA::arithmetic, double>(),
        FASTRNN_CELLS(FASTRNN_KERNELS)
#undef FASTRNN_KERNELS
    },
    FASTRNN_ISA::block_steps,
    FASTRNN_ISA::fingerprint,
    FASTRNN_ISA::column_sums<float>,
    FASTRNN_ISA::column_sums<double>,
    FASTRNN_ISA::linear<float>,
    FASTRNN_ISA::linear<double>,
    FASTRNN_ISA::math_kernels<float>(),
    FASTRNN_ISA::math_kernels<double>(),
    {FASTRNN_ISA::probe_fma, FASTRNN_ISA::probe_read},
};

}  // namespace fastrnn
