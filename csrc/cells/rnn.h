// The plain recurrent cell of Elman (1990):  h = f(a),  a = W_ih x + b_ih + W_hh h' + b_hh,  f = tanh or relu.
//
// A cell is arithmetic on vectors of hidden units. Here and in every cell:
//   x[g], hidden[g]   the two halves of gate g's sum: W_ih x + b_ih and W_hh h' + b_hh
//   prev, next        states before and after the step, indexed by H (and C)
//   own               parameters that each unit has for itself, and the cell's options: see phase.h
//   saved             what backward needs from forward; restore() makes of it the states after the step, bit for bit
//   dnext, dprev      gradients of the states; dgate the gradients of the gates' sums
// and the constants, which csrc/kernels/README.md explains, tell the loop how the cell's arithmetic is fed.
#pragma once

#include "general.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V, template <class> class Activation>
struct Rnn : Plain {
    enum State { H };
    enum Saved { SavedH };
    static constexpr int kStates = 1, kGates = 1, kSaved = 1, kGradients = 1;
    static constexpr bool kCarriesH = false;
    static constexpr int kPhases = 1;
    static constexpr Phase kForward[] = {{0, 1, kPreviousH, 0b1}};
    static constexpr Phase kBackward[] = {{0, 1, kNextGradients, 0b1}};
    static constexpr int kInputGradient[] = {0}, kHiddenGradient[] = {0};

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[SavedH] = Activation<V>::value(x[0] + hidden[0], V::zero(), V::zero());
        restore(saved, prev, own, next);
    }

    static void restore(const V* saved, const V*, Own<V>, V* next) { next[H] = saved[SavedH]; }

    template <int phase>
    static void backward(const V* saved, const V*, Own<V>, const V*, V, const V* dnext, V* dgate, V*) {
        dgate[0] = Activation<V>::gradient(saved[SavedH], dnext[H], V::zero(), V::zero());
    }
};

template <class V>
struct RnnTanh : Rnn<V, activations::Tanh> {};
template <class V>
struct RnnRelu : Rnn<V, activations::Relu> {};

// h = f(a), and f is data.
template <class V>
struct RnnGeneral : RnnTanh<V> {
    using Base = RnnTanh<V>;
    using Base::H, Base::SavedH;
    static constexpr int kActivations = 1;

    template <int phase>
    static void forward(const V* x, const V* hidden, const V* prev, Own<V> own, V* saved, V* next) {
        saved[SavedH] = x[0] + hidden[0];
        open_gates(own, 0, saved + SavedH, 1);
        Base::restore(saved, prev, own, next);
    }

    template <int phase>
    static void backward(const V* saved, const V*, Own<V> own, const V*, V, const V* dnext, V* dgate, V*) {
        dgate[0] = dnext[H];
        open_gates_backward(own, 0, saved + SavedH, dgate, 1);
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
