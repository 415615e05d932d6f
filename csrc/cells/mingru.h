// The minimal GRU of Feng et al. (2024), whose gates do not see h':  z = sigmoid(W_z x + b_z),  n = W_n x + b_n,
// h = (1 - z) * h' + z * n
#pragma once

#include "phase.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
struct MinGru : Plain {
    using Real = typename V::Real;
    enum State { H };
    enum Gate { Z, N };
    static constexpr int kStates = 1, kGates = 2, kSaved = 2, kGradients = 2;
    static constexpr bool kCarriesH = true;
    static constexpr int kPhases = 1;
    static constexpr Phase kForward[] = {{Z, 2, kNothing, 0b11}};
    static constexpr Phase kBackward[] = {{Z, 0, kNothing, 0b11}};
    static constexpr int kInputGradient[] = {Z, N}, kHiddenGradient[] = {Z, N};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[Z] = sigmoid<Real>(x[Z] + hidden[Z]);
        saved[N] = x[N] + hidden[N];
        restore(saved, prev, own, next);
    }

    static void restore(const V* saved, const V* prev, Own<V>, V* next) {
        next[H] = fma(saved[Z], saved[N] - prev[H], prev[H]);
    }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V>, const V*, V, const V* dnext, V* dgate, V* dprev) {
        const V one = V::broadcast(1);
        dgate[Z] = dnext[H] * (saved[N] - prev[H]) * saved[Z] * (one - saved[Z]);
        dgate[N] = dnext[H] * saved[Z];
        dprev[H] = dnext[H] * (one - saved[Z]);
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
