// The cells of the list.
#include "math.h"

#include "../cells/gru.h"
#include "../cells/indrnn.h"
#include "../cells/lstm.h"
#include "../cells/mingru.h"
#include "../cells/rnn.h"

#include "backward_cell.h"
#include "forward_cell.h"
#include "parts.h"
#include "step.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

#define FASTRNN_FORWARD(enumerator, arithmetic, ...) forward_cell<arithmetic, Real>(),
#define FASTRNN_BACKWARD(enumerator, arithmetic, ...) backward_cell<arithmetic, Real>(),
#define FASTRNN_STEP(enumerator, arithmetic, ...) step_cell<arithmetic, Real>(),
template <class Real>
constexpr CellTables<Real> cell_tables() {
    return {{FASTRNN_CELLS(FASTRNN_FORWARD)}, {FASTRNN_CELLS(FASTRNN_BACKWARD)}, {FASTRNN_CELLS(FASTRNN_STEP)}};
}

// The list says of a cell what its constants say.
#define FASTRNN_CHECK(enumerator, arithmetic, family, gates_, states_, planes, recurrent_, vectors_, learned_, \
                      activations)                                                                             \
    static_assert(kShape<arithmetic>.gates == gates_ && kShape<arithmetic>.states == states_);                 \
    static_assert(kShape<arithmetic>.recurrent == recurrent_ || !has_product(kShape<arithmetic>));             \
    static_assert(kShape<arithmetic>.vectors == vectors_ && kShape<arithmetic>.learned == learned_);           \
    static_assert(arithmetic<Vec<float>>::kActivations == activations && activations <= kMostActivations);     \
    static_assert(kShape<arithmetic>.saved >= static_cast<int>(sizeof planes) - 1);
FASTRNN_CELLS(FASTRNN_CHECK)

#define FASTRNN_CHECK_PLANES(enumerator, arithmetic, ...)                                      \
    static_assert(lie_together(kShape<arithmetic>.input_gradient, kShape<arithmetic>.gates));  \
    static_assert(lie_together(kShape<arithmetic>.hidden_gradient, kShape<arithmetic>.gates)); \
    static_assert(panels_fit(kShape<arithmetic>));                                             \
    static_assert(kShape<arithmetic>.phases <= kMostPhases && kShape<arithmetic>.gates <= kMaxWidth);
FASTRNN_CELLS(FASTRNN_CHECK_PLANES)

template <class Real>
void activation(const Activation<Real>& f, const Real* in, Real* out, Real* slope, Index n) {
    using V = Vec<Real>;
    for (Index i = 0; i < n; i += V::kLanes) {
        const Index rest = smaller(V::kLanes, n - i);
        V y = load_part<V>(in + i, rest), dy = V::broadcast(1);
        activate(f, &y, 1);
        differentiate(f, &y, &dy, 1);
        store_part(y, out + i, rest);
        store_part(dy, slope + i, rest);
    }
}

}  // namespace

constexpr CellTables<float> cells_float32 = cell_tables<float>();
constexpr CellTables<double> cells_float64 = cell_tables<double>();

void activation_float32(const Activation<float>& f, const float* in, float* out, float* slope, Index n) {
    activation(f, in, out, slope, n);
}
void activation_float64(const Activation<double>& f, const double* in, double* out, double* slope, Index n) {
    activation(f, in, out, slope, n);
}

void linear_float32(const LinearArgs<float>& args) { linear(args); }
void linear_float64(const LinearArgs<double>& args) { linear(args); }

}  // namespace fastrnn::FASTRNN_ISA
