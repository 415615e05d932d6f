// The independently recurrent cell of Li et al. (2018):  h = f(W_ih x + b + u * h'),  f = relu or tanh, which is data
#pragma once

#include "general.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
struct IndRnn : Plain {
    enum State { H };
    enum Saved { SavedH };
    enum Vector { U };
    enum Gradient { DA, DU };
    static constexpr int kStates = 1, kGates = 1, kSaved = 1, kGradients = 1, kVectors = 1, kLearned = 1;
    static constexpr int kActivations = 1;
    static constexpr bool kCarriesH = true;
    static constexpr int kPhases = 1;
    static constexpr Phase kForward[] = {{0, 1, kNothing, 0b1}};
    static constexpr Phase kBackward[] = {{0, 0, kNothing, 0b11}};
    static constexpr int kInputGradient[] = {DA}, kHiddenGradient[] = {DA};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[SavedH] = fma(own[U], prev[H], x[0] + hidden[0]);
        open_gates(own, 0, saved + SavedH, 1);
        restore(saved, prev, own, next);
    }

    static void restore(const V* saved, const V*, Own<V>, V* next) { next[H] = saved[SavedH]; }

    template <int phase>
    static void backward(const V* saved, const V* prev, Own<V> own, const V*, V, const V* dnext, V* dgate, V* dprev) {
        dgate[DA] = dnext[H];
        open_gates_backward(own, 0, saved + SavedH, dgate + DA, 1);
        dgate[DU] = dgate[DA] * prev[H];
        dprev[H] = dgate[DA] * own[U];
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
