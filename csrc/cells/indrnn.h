// The independently recurrent cell of Li et al. (2018):  h = relu(W_ih x + b + u * h')      or tanh
#pragma once

#include "rnn.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
struct IndRnn : Plain {
    enum State { H };
    enum Saved { SavedH };
    enum Vector { U, IsTanh };  // the latter is 0 or 1
    enum Gradient { DA, DU };
    static constexpr int kStates = 1, kGates = 1, kSaved = 1, kGradients = 1, kVectors = 2, kLearned = 1;
    static constexpr bool kCarriesH = true;
    static constexpr int kPhases = 1;
    static constexpr Phase kForward[] = {{0, 1, kNothing, 0b1}};
    static constexpr Phase kBackward[] = {{0, 0, kNothing, 0b11}};
    static constexpr int kInputGradient[] = {DA}, kHiddenGradient[] = {DA};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, const V* own, V* saved, V* next) {
        const V a = fma(own[U], prev[H], x[0] + hidden[0]);
        saved[SavedH] = either(own, Tanh<V>::apply(a), Relu<V>::apply(a));
        restore(saved, prev, own, next);
    }

    static V either(const V* own, V of_tanh, V of_relu) {
        return where_positive(own[IsTanh], of_tanh) + where_positive(V::broadcast(1) - own[IsTanh], of_relu);
    }

    static void restore(const V* saved, const V*, const V*, V* next) { next[H] = saved[SavedH]; }

    template <int phase>
    static void backward(const V* saved, const V* prev, const V* own, const V*, V, const V* dnext, V* dgate, V* dprev) {
        dgate[DA] = either(own, Tanh<V>::gradient(saved[SavedH], dnext[H]), Relu<V>::gradient(saved[SavedH], dnext[H]));
        dgate[DU] = dgate[DA] * prev[H];
        dprev[H] = dgate[DA] * own[U];
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
