// The LSTM of Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000):
//   i, f, o = sigmoid(...)   g = tanh(...)   c = f * c' + i * g   h = o * tanh(c)
#pragma once

#include "phase.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
struct Lstm {
    using Real = typename V::Real;
    enum State { H, C };
    enum Gate { I, F, G, O };
    static constexpr int kStates = 2, kGates = 4, kSaved = 4, kGradients = 4;
    static constexpr bool kCarriesH = false;
    static constexpr int kPhases = 1;
    static constexpr Phase kForward[] = {{I, 4, kPreviousH, 0b1111}};
    static constexpr Phase kBackward[] = {{I, 4, kNextGradients, 0b1111}};
    static constexpr int kInputGradient[] = {I, F, G, O}, kHiddenGradient[] = {I, F, G, O};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, V* saved, V* next) {
        saved[I] = sigmoid<Real>(x[I] + hidden[I]);
        saved[F] = sigmoid<Real>(x[F] + hidden[F]);
        saved[G] = tanh<Real>(x[G] + hidden[G]);
        saved[O] = sigmoid<Real>(x[O] + hidden[O]);
        restore(saved, prev, next);
    }

    static void restore(const V* saved, const V* prev, V* next) {
        next[C] = fma(saved[F], prev[C], saved[I] * saved[G]);
        next[H] = saved[O] * tanh<Real>(next[C]);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, const V* next, V, const V* dnext, V* dgate, V* dprev) {
        const V one = V::broadcast(1);
        const V tanh_c = tanh<Real>(next[C]);  // cheaper to compute again than to store and load
        const V dc = fma(dnext[H] * saved[O], fnma(tanh_c, tanh_c, one), dnext[C]);
        dgate[I] = dc * saved[G] * saved[I] * (one - saved[I]);
        dgate[F] = dc * prev[C] * saved[F] * (one - saved[F]);
        dgate[G] = dc * saved[I] * fnma(saved[G], saved[G], one);
        dgate[O] = dnext[H] * tanh_c * saved[O] * (one - saved[O]);
        dprev[C] = dc * saved[F];
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
